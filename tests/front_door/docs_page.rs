//! `GET /docs`: the page that draws the two documents, from the binary alone.

use crate::{openapi::check_public, support::TestNode};

const FILES: [(&str, &str); 3] = [
    ("/docs", "text/html; charset=utf-8"),
    ("/docs/docs.css", "text/css; charset=utf-8"),
    ("/docs/docs.js", "text/javascript; charset=utf-8"),
];

#[actix_web::test]
async fn anybody_gets_the_page_also_without_a_database_and_caches_keep_it() {
    for (path, content_type) in FILES {
        check_public(path, content_type).await;
    }
}

#[actix_web::test]
async fn the_page_loads_nothing_from_elsewhere_and_has_no_markup_of_others() {
    let node = TestNode::start();
    let visitor = node.visitor();
    for (path, _) in FILES {
        let answer = visitor.get(path).await;
        let policy = answer.headers.get("content-security-policy").unwrap().to_str().unwrap();
        assert_eq!(policy, "default-src 'self'; img-src 'self' https: data:", "{path}");
        assert_eq!(answer.headers.get("x-content-type-options").unwrap(), "nosniff", "{path}");
        // What the policy forbids, or could put a text of a document in as markup.
        for forbidden in ["http:", "https:", "//cdn", "style=", "onclick", "innerHTML", "insertAdjacentHTML", "eval("] {
            assert!(!answer.text.contains(forbidden), "{path}: {forbidden}");
        }
    }
    let page = visitor.get("/docs").await.text;
    assert!(!page.contains("<style") && page.matches("<script").count() == 1, "nothing inline: {page}");
    // Each of its links leads somewhere.
    for link in page.split("href=\"").chain(page.split("src=\"")).skip(1) {
        let Some(link) = link.split('"').next().filter(|link| link.starts_with('/')) else { continue };
        assert_eq!(visitor.get(link).await.status, 200, "{link}");
    }
}

#[actix_web::test]
async fn without_pages_there_is_no_page_but_both_documents() {
    let node = TestNode::with(|settings| settings.server.pages = false);
    let visitor = node.visitor();
    for (path, _) in FILES {
        assert_eq!(visitor.get(path).await.code(), "not_found", "{path}");
    }
    for path in ["/openapi.json", "/asyncapi.json"] {
        assert_eq!(visitor.get(path).await.status, 200, "{path}");
    }
}
