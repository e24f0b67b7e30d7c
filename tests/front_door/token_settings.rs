//! The settings of tokens: which contradict each other, and what is said of it.

use crate::{
    settings::{complaint, good, refuses},
    support::{Handsup, Issuer, RunningProgram, SECRET},
};

const PEM: &str = "key.pem";

/// Settings that could serve tokens of ES256.
fn es256() -> Handsup {
    let handsup = Handsup::new().set("server.bind", "127.0.0.1:0").set("auth.algorithm", "ES256");
    handsup.set("auth.public_key_file", PEM).file(PEM, &Issuer::es256("1").pem())
}

fn stderr(handsup: &Handsup, words: &[&str]) -> String {
    let ran = handsup.run(words);
    assert!(!ran.status.success() && ran.stdout.is_empty(), "{words:?}");
    String::from_utf8(ran.stderr).unwrap()
}

#[test]
fn other_algorithms_stop_the_start() {
    for bad in ["none", "HS384", "HS512", "RS512", "PS256", "ES384", "eddsa", "hs256", "Ed25519", "7"] {
        refuses(&good().set("auth.algorithm", bad), &["serve"], "auth.algorithm");
    }
}

#[test]
fn settings_of_tokens_that_contradict_each_other_stop_the_start() {
    for (settings, key) in [
        (&[("auth.public_key_file", PEM)][..], "auth.public_key_file"),
        (&[("auth.algorithm", "RS256")], "auth.public_key_file"),
        (&[("auth.algorithm", "ES256"), ("auth.public_key_file", PEM), ("auth.dev_login", "true")], "auth.dev_login"),
        (&[("auth.username_claim", "user_id")], "auth.username_claim"),
        (&[("auth.admin_claim", "user_id")], "auth.admin_claim"),
        (&[("auth.user_id_claim", "x"), ("auth.admin_claim", "x")], "auth.admin_claim"),
        (&[("auth.user_id_claim", "exp")], "auth.user_id_claim"),
        (&[("auth.username_claim", "iss")], "auth.username_claim"),
        (&[("auth.admin_claim", "token_type")], "auth.admin_claim"),
    ] {
        let handsup = good().file(PEM, &Issuer::es256("1").pem());
        let handsup = settings.iter().fold(handsup, |handsup, (key, value)| handsup.set(key, value));
        refuses(&handsup, &["serve"], key);
    }
    for key in ["public_key_file", "issuer", "audience", "user_id_claim", "username_claim", "admin_claim", "algorithm"]
    {
        let key = format!("auth.{key}");
        refuses(&good().set(&key, " "), &["serve"], &key);
    }
}

#[test]
fn a_public_key_that_can_not_be_used_stops_the_start() {
    let (ec, ed) = (Issuer::es256("1").pem(), Issuer::eddsa("1").pem());
    for (file, says) in [
        ("", "no PEM"),
        ("garbage", "no PEM"),
        (&ec[..ec.len() / 2], "no PEM"),
        (&ed, "no key for ES256"),
        (&ec.replace("PUBLIC", "PRIVATE"), "a private key"),
        (&"x".repeat(1_000_000), "no PEM"),
    ] {
        let handsup = es256().file(PEM, file);
        refuses(&handsup, &["serve"], "auth.public_key_file");
        let said = stderr(&handsup, &["serve"]);
        assert!(complaint(&said).contains(says), "{said}");
        assert!(!said.contains(&ec[30..60]), "the file is not shown: {said}");
    }
    for path in ["nowhere.pem", ".", "/dev/zero"] {
        refuses(&es256().set("auth.public_key_file", path), &["serve"], "auth.public_key_file");
    }
}

#[test]
fn only_hs256_tokens_are_made_here() {
    let said = stderr(&es256(), &["token", "--user-id", "5", "--username", "kim"]);
    assert!(complaint(&said).contains("auth.algorithm: ES256 tokens are made by their issuer"), "{said}");
}

#[actix_web::test]
async fn the_token_command_makes_what_issuer_audience_and_claim_names_ask_for() {
    let handsup = good()
        .set("auth.issuer", "https://market.example")
        .set("auth.audience", "handsup")
        .set("auth.user_id_claim", "sub")
        .set("auth.username_claim", "name")
        .set("auth.admin_claim", "https://market.example/operator");
    let served = handsup.start(&["serve"]);
    let base = served.base();
    let token = handsup.token(&["--user-id", "5", "--username", "kim", "--admin"]);
    let shown = RunningProgram::client(&base, Some(&token)).get("/admin/users/5").await;
    assert_eq!((shown.status, &shown.body["username"]), (200, &"kim".into()), "{}", shown.text);
    let plain = good().token(&["--user-id", "5", "--username", "kim", "--admin"]);
    assert_eq!(RunningProgram::client(&base, Some(&plain)).get("/alarms").await.status, 401);
}

#[actix_web::test]
async fn a_secret_that_nothing_uses_is_named_in_the_log() {
    let handsup = es256().set("auth.jwt_secret", SECRET);
    let served = handsup.start(&["serve"]);
    served.base();
    let log = served.logged("a setting is not used with this auth.algorithm", 1).await;
    assert!(log.contains("key=auth.jwt_secret") && log.contains("algorithm=ES256"), "{log}");
    assert!(!log.contains("anybody can make tokens") && !log.contains(SECRET), "{log}");
}
