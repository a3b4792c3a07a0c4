# python client.py HOST PORT CA VERSION VISITS, with tlslite-ng: comes back with the session of the
# last connection. It checks no certificate.
import socket
import sys

from tlslite.api import HandshakeSettings, TLSConnection

host, port, _, version, visits = sys.argv[1:]
settings = HandshakeSettings()
settings.minVersion = settings.maxVersion = (3, int(version[-1]) + 1)
session = None
for _ in range(int(visits)):
    tls = TLSConnection(socket.create_connection((host, int(port))))
    tls.closeSocket = True
    tls.handshakeClientCert(settings=settings, session=session, serverName="localhost")
    print("reused" if tls.resumed else "new")
    tls.send(b"hello\n")
    assert tls.read(max=6, min=6) == b"hello\n"
    session = tls.session
    tls.close()
