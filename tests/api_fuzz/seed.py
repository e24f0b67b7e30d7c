"""Makes the goods and users that requests of scripts/fuzz-api name: of the user and of the admin, live and scheduled."""

import json
import os
import urllib.request

# The first ids of a fresh database.
GOODS = [1, 2, 3, 4]
# Whom nobody needs any more: an admin may make them inactive.
USERS = [1, 2]


def call(path, token, body):
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
    request = urllib.request.Request(os.environ["HANDSUP_FUZZ_ADDRESS"] + path, json.dumps(body).encode(), headers)
    with urllib.request.urlopen(request) as answer:
        return json.load(answer)


def make():
    user, admin = os.environ["HANDSUP_FUZZ_USER"], os.environ["HANDSUP_FUZZ_ADMIN"]
    made = []
    for seller, bidder in ((user, admin), (admin, user)):
        for start in (os.environ["HANDSUP_FUZZ_NOW"], "2099-01-01T00:00:00Z"):
            body = {"title": "camera", "start_price": 1000, "starts_at": start, "duration_s": 86400}
            made.append(call("/goods/", seller, body)["id"])
        call(f"/goods/{made[-2]}/bids", bidder, {"price": 1000})
    assert made == GOODS, made
    for number in USERS:
        token = call("/dev/token", user, {"user_id": number})["token"]
        call(f"/goods/{GOODS[0]}/bids", token, {"price": 1000 + number})


if __name__ == "__main__":
    make()
