"""Identity providers in a process of their own: OpenID Connect as the specification has it, and lying on demand.

``python issuer.py`` prints its port and serves any number of issuers, ``/NAME`` each. ``POST /NAME/control`` sets what the
next sign-ins say (``claims``, ``userinfo``), how their tokens are forged (``forge``) and whether the sign-in page is shown
(``silent``). Everything else is strict: codes count once and for one client, redirect address and PKCE verifier.
"""

import base64
import hashlib
import hmac
import json
import secrets
import sys
import threading
import time
from dataclasses import dataclass, field
from urllib.parse import urlencode

from flask import Flask, jsonify, redirect, request
from joserfc import jwt
from joserfc.jwk import ECKey, RSAKey
from joserfc.jws import JWSRegistry
from werkzeug.serving import make_server

CLIENT, SECRET = "entrepot", "the client's: secret"


@dataclass
class Issuer:
    url: str
    silent: bool = True
    down: bool = False
    forge: str = ""
    claims: dict = field(default_factory=dict)
    userinfo: dict = field(default_factory=dict)
    key: RSAKey = field(default_factory=lambda: RSAKey.generate_key(2048, {"kid": "one", "use": "sig", "alg": "RS256"}))
    codes: dict = field(default_factory=dict)
    asked: list = field(default_factory=list)
    extra: dict = field(default_factory=dict)


app = Flask("issuer")
ISSUERS: dict[str, Issuer] = {}
MAKING = threading.Lock()
STRANGER = RSAKey.generate_key(2048, {"kid": "one", "use": "sig", "alg": "RS256"})
CURVE = ECKey.generate_key("P-256", {"kid": "curve", "use": "sig"})


def issuer(name: str) -> Issuer:
    with MAKING:  # the key of one takes longer than all the rest of a test
        if name not in ISSUERS:
            ISSUERS[name] = Issuer(f"{request.host_url}{name}")
        return ISSUERS[name]


@app.get("/<name>/.well-known/openid-configuration")
def discovery(name):
    here = issuer(name)
    if here.down:
        return "down", 503
    return jsonify(
        {
            "issuer": here.url,
            "authorization_endpoint": f"{here.url}/authorize",
            "token_endpoint": f"{here.url}/token",
            "jwks_uri": f"{here.url}/keys",
            "userinfo_endpoint": f"{here.url}/userinfo",
            "token_endpoint_auth_methods_supported": ["client_secret_basic"],
            **here.extra,
        }
    )


@app.get("/<name>/keys")
def keys(name):
    here = issuer(name)
    odd = [{"kty": "EC", "kid": "odd", "crv": "P-1", "x": "?", "y": "?"}, {"kty": "oct", "kid": "one", "k": "AAAA"}, 7]
    return jsonify({"keys": [*odd, here.key.as_dict(private=False), CURVE.as_dict(private=False)]})


@app.get("/elsewhere/stranger-keys")
def stranger_keys():
    return jsonify({"keys": [STRANGER.as_dict(private=False)]})


@app.route("/<name>/authorize", methods=["GET", "POST"])
def authorize(name):
    here = issuer(name)
    here.asked.append(request.args.to_dict())
    if request.method == "GET" and not here.silent:
        return "<!doctype html><title>Issuer</title><h1>Issuer</h1><form method=post><button>Sign in as ada</button></form>"
    code = secrets.token_urlsafe(16)
    here.codes[code] = request.args.to_dict()
    answer = {"code": code, "state": request.args["state"]}
    if here.extra.get("authorization_response_iss_parameter_supported"):
        answer["iss"] = here.url
    return redirect(f"{request.args['redirect_uri']}?{urlencode(answer)}", 303)


@app.post("/<name>/token")
def token(name):
    here = issuer(name)
    asked = here.codes.pop(request.form.get("code", ""), None)
    challenge = base64.urlsafe_b64encode(hashlib.sha256(request.form.get("code_verifier", "").encode()).digest())
    pair = base64.b64decode(request.headers.get("Authorization", "Basic ").partition(" ")[2]).decode()
    fine = (
        asked is not None
        and pair == "entrepot:the%20client%27s%3A%20secret"
        and asked["client_id"] == CLIENT
        and asked["redirect_uri"] == request.form.get("redirect_uri")
        and asked["code_challenge"].encode() == challenge.rstrip(b"=")
        and asked["code_challenge_method"] == "S256"
    )
    if not fine:
        return jsonify({"error": "invalid_grant"}), 400
    now = int(time.time())
    claims = {"iss": here.url, "aud": CLIENT, "sub": "subject-1", "exp": now + 300, "iat": now, "nonce": asked["nonce"]}
    if asked.get("max_age") == "0":
        claims["auth_time"] = now
    claims |= here.claims
    claims = {name: value for name, value in claims.items() if value is not None}
    return jsonify({"access_token": "opaque", "token_type": "Bearer", "id_token": forged(here, claims)})


@app.get("/<name>/userinfo")
def userinfo(name):
    if request.headers.get("Authorization") != "Bearer opaque":
        return "", 401
    return jsonify({"sub": "subject-1", **issuer(name).userinfo})


def forged(here: Issuer, claims: dict) -> object:
    kind = here.forge
    now = int(time.time())
    changed = {
        "another issuer": {"iss": here.url + "/"},
        "another audience": {"aud": "somebody-else"},
        "two audiences": {"aud": [CLIENT, "somebody-else"]},
        "another authorised party": {"azp": "somebody-else"},
        "another nonce": {"nonce": "0" * 64},
        "over": {"exp": now - 3600},
        "an end in words": {"exp": "tomorrow"},
        "an end beyond all time": {"exp": 1e300},
        "an end that is true": {"exp": True},
        "from the future": {"iat": now + 3600},
        "not yet": {"nbf": now + 3600},
        "a subject that is a number": {"sub": 7},
        "a subject without end": {"sub": "s" * 5000},
        "far too long": {"padding": "x" * 20_000},
    }
    claims |= changed.get(kind, {})
    if kind.startswith("without "):
        claims.pop(kind.removeprefix("without "))
    head, key = {"alg": "RS256", "kid": here.key.kid}, here.key
    if kind == "no signature":
        return ".".join((part({"alg": "none"}), part(claims), ""))
    if kind == "HMAC with the public key":
        signed = f"{part({**head, 'alg': 'HS256'})}.{part(claims)}"
        return f"{signed}.{plain(hmac.digest(here.key.as_pem(private=False), signed.encode(), 'sha256'))}"
    if kind == "another key of the same name":
        key = STRANGER
    if kind == "keys from its own head":
        head, key = {**head, "jku": here.url.rpartition("/")[0] + "/elsewhere/stranger-keys"}, STRANGER
    if kind == "a key in its own head":
        head, key = {**head, "jwk": STRANGER.as_dict(private=False)}, STRANGER
    if kind in {
        "keys from its own head",
        "a key in its own head",
        "an extension",
        "one algorithm under another's name",
    }:
        alg = "ES256" if "name" in kind else "RS256"
        key = CURVE if "name" in kind else key
        head = {**head, "crit": ["x"], "x": 1} if kind == "an extension" else head
        signed = f"{part(head)}.{part(claims)}"
        return f"{signed}.{sign(signed, key, alg)}"
    if kind == "an unknown key":
        head["kid"] = "../../etc/passwd"
    text = jwt.encode(head, claims, key, algorithms=["RS256"])
    if kind == "another serialisation":
        first, second, _ = text.split(".")
        return {"payload": second, "signatures": [], "protected": first}
    if kind == "changed afterwards":
        first, _, third = text.split(".")
        return f"{first}.{part({**claims, 'sub': 'subject-1'})}.{third[::-1]}"
    return text


def sign(signed: str, key: RSAKey | ECKey, alg: str) -> str:
    """A signature over a head that no library would write."""
    return plain(JWSRegistry.algorithms[alg].sign(signed.encode(), key))


def part(value: dict) -> str:
    return plain(json.dumps(value).encode())


def plain(value: bytes) -> str:
    return base64.urlsafe_b64encode(value).rstrip(b"=").decode()


@app.post("/<name>/control")
def control(name):
    here, wished = issuer(name), request.get_json()
    if wished.pop("reset", False):
        fresh = Issuer(here.url)
        fresh.key = here.key
        ISSUERS[name] = here = fresh
    if wished.pop("new_key", False):
        here.key = RSAKey.generate_key(2048, {"kid": secrets.token_hex(4), "use": "sig", "alg": "RS256"})
    for key, value in wished.items():
        setattr(here, key, value)
    return jsonify({"asked": here.asked})


if __name__ == "__main__":
    server = make_server("127.0.0.1", int(sys.argv[1]) if len(sys.argv) > 1 else 0, app, threaded=True)
    print(server.port, flush=True)
    server.serve_forever()
