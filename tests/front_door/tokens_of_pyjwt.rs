//! Tokens made by another library, PyJWT, for each algorithm: what it signs is accepted, and nothing else. The tokens are
//! fixtures; `scripts/pyjwt-tokens` makes new ones, whose folder `HANDSUP_TEST_TOKENS` names.

use std::{path::PathBuf, sync::Arc};

use handsup::test_support::{app::Settings, domain::Timestamp};
use serde::Deserialize;
use serde_json::json;

use crate::support::{ManualTime, TestNode};

#[derive(Deserialize)]
struct Tokens {
    now: i64,
    secret: String,
    issuer: String,
    audience: String,
    sets: Vec<TokenSet>,
}

#[derive(Deserialize)]
struct TokenSet {
    /// The public key; none for HS256.
    file: Option<String>,
    algorithm: String,
    valid: Vec<ValidToken>,
    invalid: Vec<InvalidToken>,
}

#[derive(Deserialize)]
struct ValidToken {
    what: String,
    token: String,
    user_id: i64,
    admin: bool,
}

#[derive(Deserialize)]
struct InvalidToken {
    what: String,
    token: String,
}

fn folder() -> PathBuf {
    match std::env::var_os("HANDSUP_TEST_TOKENS") {
        Some(folder) if !folder.is_empty() => folder.into(),
        _ => PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/pyjwt/fixtures"),
    }
}

fn tokens() -> Tokens {
    serde_json::from_str(&std::fs::read_to_string(folder().join("tokens.json")).unwrap()).unwrap()
}

/// A node that takes the tokens of this set; one alone, since several wait for each other with a token of the test key.
fn node(tokens: &Tokens, set: &TokenSet) -> TestNode {
    let time = ManualTime::at(Timestamp::from_secs(tokens.now));
    TestNode::alone_with_time(Arc::clone(&time) as _, |settings: &mut Settings| {
        let auth = &mut settings.auth;
        auth.algorithm = serde_json::from_value(json!(set.algorithm)).unwrap();
        auth.public_key_file = set.file.as_ref().map(|file| folder().join(file).to_str().unwrap().to_owned());
        auth.jwt_secret = set.file.is_none().then(|| tokens.secret.clone().into());
        auth.issuer = Some(tokens.issuer.clone());
        auth.audience = Some(tokens.audience.clone());
    })
}

async fn check(algorithm: &str) {
    let tokens = tokens();
    let set = tokens.sets.iter().find(|set| set.algorithm == algorithm).expect("the algorithm");
    let node = node(&tokens, set);
    assert!(set.valid.len() >= 9 && set.invalid.len() >= 20);
    for ValidToken { what, token, user_id, admin } in &set.valid {
        let client = node.client(Some(token.clone()));
        let bearer = json!({"token": token});
        assert_eq!(client.get("/alarms").await.status, 200, "{what}: {bearer}");
        let health = client.get("/admin/health").await;
        assert_eq!(health.status, if *admin { 200 } else { 403 }, "{what}: {}", health.text);
        let hello = client.socket_since(0).await.expect_frame("hello").await;
        assert_eq!(hello["user_id"], *user_id, "{what}");
    }
    for InvalidToken { what, token } in &set.invalid {
        let client = node.client(Some(token.clone()));
        for path in ["/alarms", "/goods/", "/admin/health"] {
            let answer = client.get(path).await;
            assert_eq!((answer.status, answer.code()), (401, "unauthorized"), "{what}: {}", answer.text);
        }
    }
}

#[actix_web::test]
async fn hs256() {
    check("HS256").await;
}

#[actix_web::test]
async fn rs256() {
    check("RS256").await;
}

#[actix_web::test]
async fn es256() {
    check("ES256").await;
}

#[actix_web::test]
async fn eddsa() {
    check("EdDSA").await;
}

/// A token that is valid at one node is nothing to a node with another algorithm, whatever that is.
#[actix_web::test]
async fn no_algorithm_takes_the_tokens_of_another() {
    let tokens = tokens();
    for set in &tokens.sets {
        let node = node(&tokens, set);
        for other in tokens.sets.iter().filter(|other| other.algorithm != set.algorithm) {
            for ValidToken { what, token, .. } in &other.valid {
                let answer = node.client(Some(token.clone())).get("/alarms").await;
                assert_eq!(answer.status, 401, "{} at {}: {what}", other.algorithm, set.algorithm);
            }
        }
    }
}
