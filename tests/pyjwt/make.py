"""Makes keys and tokens by PyJWT, for tests/front_door/tokens_of_pyjwt.rs: make.py FOLDER

Only public keys and tokens are written. Whoever wants others makes all of them anew (scripts/pyjwt-tokens FOLDER).
"""

import base64
import hashlib
import hmac
import json
import pathlib
import sys

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa, x25519

NOW = 1_800_000_000
SECRET = "the-secret-that-this-test-and-PyJWT-share-and-that-is-long-enough-for-HS512"
ISSUER = "https://market.example"
AUDIENCE = "handsup"


def claims(**own):
    made = {"user_id": 7, "username": "김철수", "iat": NOW, "exp": NOW + 3600, "token_type": "access", "iss": ISSUER}
    made["aud"] = AUDIENCE
    made.update(own)
    return {name: value for name, value in made.items() if value is not None}


def pem(key):
    return key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    ).decode()


def encoded(part):
    data = part if isinstance(part, bytes) else json.dumps(part).encode()
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def hmac_by(secret, header):
    """HS256 by hand: PyJWT refuses to sign with a public key."""
    message = f"{encoded(header)}.{encoded(claims())}"
    return f"{message}.{encoded(hmac.new(secret, message.encode(), hashlib.sha256).digest())}"


def valid(key, algorithm):
    def signed(headers=None, **own):
        return jwt.encode(claims(**own), key, algorithm=algorithm, headers=headers)

    return [
        {"what": "a number", "token": signed(), "user_id": 7, "admin": False},
        {"what": "a text", "token": signed(user_id="8"), "user_id": 8, "admin": False},
        {"what": "2^63 - 1", "token": signed(user_id=str(2**63 - 1)), "user_id": 2**63 - 1, "admin": False},
        {"what": "an admin", "token": signed(user_id=9, admin=True), "user_id": 9, "admin": True},
        {"what": "one of two audiences", "token": signed(aud=["other", AUDIENCE]), "user_id": 7, "admin": False},
        {"what": "no kind", "token": signed(token_type=None), "user_id": 7, "admin": False},
        {"what": "a fraction of a second", "token": signed(exp=NOW + 0.5), "user_id": 7, "admin": False},
        {"what": "any kid", "token": signed(headers={"kid": "../../etc/passwd"}), "user_id": 7, "admin": False},
        {"what": "other headers", "token": signed(headers={"typ": "at+jwt", "x": 1}), "user_id": 7, "admin": False},
    ]


def invalid(key, algorithm, stranger, public):
    def signed(by=key, with_algorithm=algorithm, headers=None, **own):
        return jwt.encode(claims(**own), by, algorithm=with_algorithm, headers=headers)

    good = signed()
    head, body, signature = good.split(".")
    found = {
        "expired": signed(exp=NOW),
        "without an end": signed(exp=None),
        "a refresh token": signed(token_type="refresh"),
        "another issuer": signed(iss="https://evil.example"),
        "no issuer": signed(iss=None),
        "another audience": signed(aud="other"),
        "no audience": signed(aud=None),
        "nobody": signed(user_id=None),
        "another key": signed(by=stranger),
        "its own key in the header": signed(by=stranger, headers={"jwk": public(stranger)}),
        "a key to fetch": signed(by=stranger, headers={"jku": "https://evil.example/keys", "kid": "1"}),
        "a critical extension": signed(headers={"crit": ["b64"], "b64": True}),
        "alg none": jwt.encode(claims(), None, algorithm="none"),
        "alg none, signed": f"{encoded({'alg': 'none'})}.{body}.{signature}",
        "another alg in the header": f"{encoded({'alg': 'HS512'})}.{body}.{signature}",
        "other claims": f"{head}.{encoded(claims(user_id=1, admin=True))}.{signature}",
        "no signature": f"{head}.{body}.",
        "a cut signature": good[:-4],
        "a longer signature": good + "AAAA",
    }
    return [{"what": what, "token": token} for what, token in found.items()]


def asymmetric(algorithm, key, stranger, jwk, others):
    public = pem(key)
    bad = invalid(key, algorithm, stranger, jwk)
    # The public key as the secret of HS256, in the forms in which a program may have it.
    der = key.public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    for form, secret in [("PEM", public.encode()), ("PEM without its end", public.strip().encode()), ("DER", der)]:
        bad.append({"what": f"HS256 with the public key as {form}", "token": hmac_by(secret, {"alg": "HS256"})})
        token = hmac_by(secret, {"alg": algorithm})
        bad.append({"what": f"the same, called {algorithm} ({form})", "token": token})
    for name, by in others:
        bad.append({"what": name, "token": jwt.encode(claims(), by, algorithm=name)})
    return public, {"algorithm": algorithm, "valid": valid(key, algorithm), "invalid": bad}


def main(folder):
    folder.mkdir(parents=True, exist_ok=True)
    rsa_key, rsa_stranger = (rsa.generate_private_key(65537, 2048) for _ in range(2))
    ec_key, ec_stranger = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    ed_key, ed_stranger = (ed25519.Ed25519PrivateKey.generate() for _ in range(2))

    def jwk(of):
        return lambda key: json.loads(of.to_jwk(key.public_key()))

    algorithms = jwt.algorithms
    made = [
        (
            "rs256.pem",
            asymmetric(
                "RS256", rsa_key, rsa_stranger, jwk(algorithms.RSAAlgorithm),
                [("RS384", rsa_key), ("RS512", rsa_key), ("PS256", rsa_key), ("ES256", ec_key), ("EdDSA", ed_key)],
            ),
        ),
        (
            "es256.pem",
            asymmetric(
                "ES256", ec_key, ec_stranger, jwk(algorithms.ECAlgorithm),
                [("RS256", rsa_key), ("ES384", ec.generate_private_key(ec.SECP384R1())), ("EdDSA", ed_key)],
            ),
        ),
        (
            "eddsa.pem",
            asymmetric(
                "EdDSA", ed_key, ed_stranger, jwk(algorithms.OKPAlgorithm), [("RS256", rsa_key), ("ES256", ec_key)],
            ),
        ),
    ]
    secret = {
        "algorithm": "HS256",
        "valid": valid(SECRET, "HS256"),
        "invalid": invalid(SECRET, "HS256", SECRET[::-1], lambda key: {"kty": "oct", "k": encoded(key.encode())})
        + [
            {"what": name, "token": jwt.encode(claims(), key, algorithm=name)}
            for name, key in [("HS384", SECRET), ("HS512", SECRET), ("RS256", rsa_key), ("EdDSA", ed_key)]
        ],
    }
    for name, (public, _) in made:
        (folder / name).write_text(public)
    others = [
        rsa.generate_private_key(65537, 1024),
        rsa.generate_private_key(65537, 2040),
        rsa.generate_private_key(65537, 4608),
        ec.generate_private_key(ec.SECP384R1()),
        ec.generate_private_key(ec.SECP521R1()),
        ec.generate_private_key(ec.SECP256K1()),
        ed448.Ed448PrivateKey.generate(),
        x25519.X25519PrivateKey.generate(),
    ]
    (folder / "others.pem").write_text("".join(pem(key) for key in others))
    sets = [{"file": name, **tokens} for name, (_, tokens) in made] + [secret]
    all_of_it = {"now": NOW, "secret": SECRET, "issuer": ISSUER, "audience": AUDIENCE, "sets": sets}
    (folder / "tokens.json").write_text(json.dumps(all_of_it, ensure_ascii=False, indent=1) + "\n")


main(pathlib.Path(sys.argv[1]))
