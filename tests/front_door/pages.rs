//! `GET /`: the bidders' page, `GET /admin/`: the operator's, and their files, from the binary alone. What it does in a browser is tested in `web/tests`.

use std::{collections::BTreeSet, fs};

use actix_web::http::Method;

use crate::{
    openapi::check_public,
    support::{Answer, Client, TestNode},
};

const POLICY: &str = "default-src 'self'; img-src 'self' https: data:";

/// The names of the files in `web/app` and in its folder for the operator, and their texts.
fn files() -> Vec<(String, String)> {
    let paths = ["web/app", "web/app/admin"].into_iter().flat_map(|folder| fs::read_dir(folder).unwrap());
    let files = paths.map(|entry| entry.unwrap().path()).filter(|path| path.is_file());
    let named = files.map(|path| (path.strip_prefix("web/app").unwrap().to_str().unwrap().to_owned(), path));
    named.map(|(name, path)| (name, fs::read_to_string(path).unwrap())).collect()
}

/// What stands in quotes after each of these beginnings.
fn quoted<'a>(text: &'a str, beginnings: &[&str]) -> BTreeSet<&'a str> {
    let rests = beginnings.iter().flat_map(|beginning| text.split(*beginning).skip(1));
    rests.filter_map(|rest| rest.split('"').next()).collect()
}

/// Only the head: the body is no text. Browsers read it in `web/tests`.
async fn gzipped(client: &Client, path: &str) -> Answer {
    client.send_with(Method::HEAD, path, None, &[("Accept-Encoding", "br, gzip;q=0.8")]).await
}

fn length(answer: &Answer) -> u64 {
    answer.headers.get("content-length").unwrap().to_str().unwrap().parse().unwrap()
}

#[actix_web::test]
async fn anybody_gets_the_page_and_caches_keep_it() {
    check_public("/", "text/html; charset=utf-8").await;
    check_public("/admin/", "text/html; charset=utf-8").await;
    check_public("/app/app.js", "text/javascript; charset=utf-8").await;
    check_public("/app/look.css", "text/css; charset=utf-8").await;
    check_public("/app/icon.svg", "image/svg+xml").await;
}

#[actix_web::test]
async fn every_file_of_the_page_is_there_and_nothing_else() {
    let node = TestNode::start();
    let visitor = node.visitor();
    let files = files();
    assert!(files.len() > 10);
    for (name, text) in &files {
        let path = match name.as_str() {
            "index.html" => "/".to_owned(),
            "admin/index.html" => "/admin/".to_owned(),
            _ => format!("/app/{name}"),
        };
        let answer = visitor.get(&path).await;
        assert_eq!((answer.status, answer.text == *text), (200, true), "{path}: list it in src/http/pages.rs");
        assert_eq!(answer.headers.get("content-security-policy").unwrap(), POLICY, "{path}");
        assert_eq!(answer.headers.get("x-content-type-options").unwrap(), "nosniff", "{path}");
    }
    for page in ["/", "/admin", "/admin/"] {
        assert_eq!(visitor.get(page).await.headers.get("x-frame-options").unwrap(), "DENY", "{page}");
    }
    for path in ["/app", "/app/", "/app/index.html", "/app/none.js", "/app/%2e%2e/Cargo.toml", "/app/../docs/docs.js"] {
        assert_eq!(visitor.get(path).await.code(), "not_found", "{path}");
    }
}

#[actix_web::test]
async fn the_page_loads_nothing_from_elsewhere_and_parses_no_markup() {
    let node = TestNode::start();
    let visitor = node.visitor();
    for (name, text) in files() {
        // What the policy forbids, or what could make markup of a title, a name or a line.
        let forbidden = ["https:", "//cdn", "style=", "onclick=", "innerHTML", "outerHTML", "insertAdjacentHTML"];
        let more = ["document.write", "eval(", "new Function", "srcdoc", "DOMParser", "<style>", "javascript:"];
        for word in forbidden.iter().chain(&more) {
            let is_icon = name == "icon.svg" && *word == "<style>";
            assert!(is_icon || !text.contains(word), "{name}: {word}");
        }
        for path in quoted(&text, &["href=\"", "src=\"", "from \"", "import \""]) {
            let folder = if name.starts_with("admin/") { "/app/admin/" } else { "/app/" };
            let path = path.replacen("./", folder, 1);
            assert!(path.starts_with('/'), "{name}: {path}");
            assert_eq!(visitor.get(&path).await.status, 200, "{name}: {path}");
        }
    }
}

#[actix_web::test]
async fn the_page_is_sent_compressed_to_those_who_take_it() {
    let node = TestNode::start();
    let visitor = node.visitor();
    for path in ["/", "/app/look.css", "/client/handsup.js", "/openapi.json"] {
        let plain = visitor.send_with(Method::GET, path, None, &[("Accept-Encoding", "identity")]).await;
        assert!(plain.headers.get("content-encoding").is_none(), "{path}");
        let small = gzipped(&visitor, path).await;
        assert_eq!(small.headers.get("content-encoding").unwrap(), "gzip", "{path}");
        assert!(small.headers.get_all("vary").any(|vary| vary.to_str().unwrap().contains("accept-encoding")), "{path}");
        assert!(length(&small) < length(&plain), "{path}");
        // Bytes that differ have tags that differ.
        let [small_tag, plain_tag] =
            [&small, &plain].map(|answer| answer.headers.get("etag").unwrap().to_str().unwrap());
        assert_ne!(small_tag, plain_tag, "{path}");
        let known = [("Accept-Encoding", "gzip"), ("If-None-Match", small_tag)];
        let again = visitor.send_with(Method::GET, path, None, &known).await;
        assert_eq!((again.status, again.text.as_str()), (304, ""), "{path}");
        let other = [("Accept-Encoding", "gzip"), ("If-None-Match", plain_tag)];
        assert_eq!(visitor.send_with(Method::HEAD, path, None, &other).await.status, 200, "{path}");
    }
    for accepted in ["", "gzip;q=0", "identity", "*;q=0", "\u{ff}", "gzip;q=x"] {
        let answer = visitor.send_with(Method::GET, "/", None, &[("Accept-Encoding", accepted)]).await;
        assert_eq!((answer.status, answer.headers.get("content-encoding")), (200, None), "{accepted}");
    }
}

#[actix_web::test]
async fn where_developers_log_in_the_page_asks_for_a_name_and_else_for_a_token() {
    let (with_token, with_name) = (TestNode::start(), TestNode::with(|settings| settings.auth.dev_login = true));
    for path in ["/", "/admin/"] {
        let page = with_token.visitor().get(path).await.text;
        assert!(page.contains("data-login=\"token\"") && !page.contains("data-login=\"name\""), "{page}");
        let page = with_name.visitor().get(path).await.text;
        assert!(page.contains("data-login=\"name\"") && !page.contains("data-login=\"token\""), "{page}");
    }
}

#[actix_web::test]
async fn without_pages_there_is_no_page() {
    let node = TestNode::with(|settings| settings.server.pages = false);
    for path in ["/", "/admin/", "/app/admin/admin.js", "/app/app.js", "/app/look.css", "/app/none.js"] {
        assert_eq!(node.visitor().get(path).await.code(), "not_found", "{path}");
    }
}
