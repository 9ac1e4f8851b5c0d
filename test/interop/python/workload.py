"""A workload written with the package `spiffe`. Prints one line for each thing that worked.

workload.py SOCKET SPIFFE-ID
"""
import sys

from spiffe import JwtSource, SpiffeId, WorkloadApiClient, X509Source

socket, expected = f"unix://{sys.argv[1]}", sys.argv[2]

with X509Source(socket_path=socket) as source:
    svid = source.get_x509_context().default_svid
    assert str(svid.spiffe_id) == expected, svid.spiffe_id
    print("x509", svid.spiffe_id, len(svid.cert_chain))

with JwtSource(socket_path=socket) as source:
    token = source.fetch_svid(audience={"them"})
    print("jwt", token.spiffe_id)

with WorkloadApiClient(socket_path=socket) as client:
    validated = client.validate_jwt_svid(token.token, "them")
    print("validated", validated.spiffe_id)
    bundles = client.fetch_x509_bundles()
    print("bundles", len(bundles.bundles))
    try:
        client.validate_jwt_svid(token.token, "nobody")
        raise SystemExit("a token for another audience was taken")
    except Exception as error:  # the package wraps the reason in its own types
        print("refused", type(error).__name__)
