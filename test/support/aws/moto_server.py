"""moto's AWS on a loopback port, which it prints, with three faults of its KMS mended.

It hashes what it is given even where MessageType says that it is a digest, so that the signature is of the digest's digest, and it
knows keys to be deleted by their id alone, where AWS takes the ARN as well, and
does not say when an alias was last set.
"""

import json
import sys
import time
from threading import local

from cryptography.hazmat.primitives.asymmetric.utils import Prehashed
from moto.kms import models, responses, utils
from werkzeug.serving import make_server
from moto.server import DomainDispatcherApplication, create_backend_app

request = local()
answer = responses.KmsResponse.sign


def sign(self):
    request.digest = self._get_param("MessageType") == "DIGEST"
    try:
        return answer(self)
    finally:
        request.digest = False


responses.KmsResponse.sign = sign


schedule = models.KmsBackend.schedule_key_deletion
models.KmsBackend.schedule_key_deletion = lambda self, key, days: schedule(self, key.split("/")[-1], days)


touched = {}
set_alias = responses.KmsResponse._set_alias
list_aliases = responses.KmsResponse.list_aliases


def set_alias_and_note(self, update=False):
    done = set_alias(self, update)
    touched[self._get_param("AliasName")] = time.time()
    return done


def list_aliases_with_times(self):
    answer = json.loads(list_aliases(self))
    for alias in answer["Aliases"]:
        if alias["AliasName"] in touched:
            alias["LastUpdatedDate"] = touched[alias["AliasName"]]
    return json.dumps(answer)


responses.KmsResponse._set_alias = set_alias_and_note
responses.KmsResponse.list_aliases = list_aliases_with_times


def prehashed(algorithm):
    return Prehashed(algorithm) if getattr(request, "digest", False) else algorithm


ec_hash = utils.ECDSAPrivateKey._ECDSAPrivateKey__hash_algorithm
rsa_scheme = utils.RSAPrivateKey._RSAPrivateKey__padding_and_hash_algorithm
utils.ECDSAPrivateKey._ECDSAPrivateKey__hash_algorithm = lambda self, name: prehashed(ec_hash(self, name))


def rsa_prehashed(self, name):
    padding, algorithm = rsa_scheme(self, name)
    return padding, prehashed(algorithm)


utils.RSAPrivateKey._RSAPrivateKey__padding_and_hash_algorithm = rsa_prehashed

server = make_server("127.0.0.1", 0, DomainDispatcherApplication(create_backend_app), threaded=True)
print(server.server_port, flush=True)
sys.stdout.close()
server.serve_forever()
