//! `/client/handsup.js` and its types, from the binary. What the library does is tested in `web/tests`.

use std::fs;

use actix_web::http::Method;

use crate::{openapi::check_public, support::TestNode};

const FILES: [(&str, &str); 2] = [
    ("/client/handsup.js", "text/javascript; charset=utf-8"),
    ("/client/handsup.d.ts", "application/typescript; charset=utf-8"),
];

#[actix_web::test]
async fn anybody_gets_the_library_and_caches_keep_it() {
    for (path, content_type) in FILES {
        check_public(path, content_type).await;
    }
}

#[actix_web::test]
async fn the_library_is_the_repositorys_own_and_nothing_else_is_there() {
    let node = TestNode::start();
    let visitor = node.visitor();
    for (path, _) in FILES {
        let answer = visitor.get(path).await;
        assert_eq!(answer.headers.get("x-content-type-options").unwrap(), "nosniff", "{path}");
        assert!(answer.text == fs::read_to_string(format!("web{path}")).unwrap(), "{path}");
    }
    for path in ["/client", "/client/", "/client/package.json", "/client/tests", "/client/%2e%2e/docs"] {
        assert_eq!(visitor.send(Method::GET, path, None).await.code(), "not_found", "{path}");
    }
}

#[actix_web::test]
async fn without_pages_there_is_no_library() {
    let node = TestNode::with(|settings| settings.server.pages = false);
    for (path, _) in FILES {
        assert_eq!(node.visitor().get(path).await.code(), "not_found", "{path}");
    }
}
