# SPDX-License-Identifier: Apache-2.0
"""A server of C-core that answers every method with an empty message: server.py PORT [DIR] [OPTION=NUMBER ...].

With DIR it speaks TLS, and wants a client certificate, by the files good.pem, good.key and ca.pem there.
"""
import sys
from concurrent import futures

import grpc


class Everything(grpc.GenericRpcHandler):
    def service(self, _):
        return grpc.unary_unary_rpc_method_handler(lambda request, context: b"", bytes, bytes)


def main(port, *args):
    options = [(k, int(v)) for k, v in (a.split("=") for a in args if "=" in a)]
    server = grpc.server(futures.ThreadPoolExecutor(4), handlers=(Everything(),), options=options)
    where = [a for a in args if "=" not in a]
    if where:
        read = lambda name: open(f"{where[0]}/{name}", "rb").read()
        creds = grpc.ssl_server_credentials([(read("good.key"), read("good.pem"))], read("ca.pem"), True)
        server.add_secure_port(f"127.0.0.1:{port}", creds)
    else:
        server.add_insecure_port(f"127.0.0.1:{port}")
    server.start()
    server.wait_for_termination()


main(*sys.argv[1:])
