"""An ordinary client of gRPC: grpc_client.py plain|tls HOST:PORT. It knows of no proxy."""

import sys

import grpc

WAY, TARGET = sys.argv[1:]
if WAY == "tls":
    channel = grpc.secure_channel(TARGET, grpc.ssl_channel_credentials())
else:
    channel = grpc.insecure_channel(TARGET)
with channel:
    say = channel.unary_unary("/echo.Echo/Say", request_serializer=bytes, response_deserializer=bytes)
    print(say(b"hello", timeout=20).decode())
