//! `/media/*`: the built-in picture and the files of `server.media_dir`; nothing else can be read through it.

use std::{fs, os::unix::fs::symlink, path::Path};

use awc::http::Method;
use tempfile::TempDir;

use crate::support::{Answer, Raw, TestNode};

fn header<'a>(answer: &'a Answer, name: &str) -> &'a str {
    answer.headers.get(name).unwrap_or_else(|| panic!("{name}: {answer:?}")).to_str().unwrap()
}

/// Asserts that browsers show it with its declared type and never run it.
fn is_inert(answer: &Answer) {
    assert_eq!(header(answer, "x-content-type-options"), "nosniff");
    let policy = header(answer, "content-security-policy");
    assert!(policy.contains("sandbox") && policy.contains("default-src 'none'"), "{policy}");
    assert!(!policy.contains("allow-"), "{policy}");
}

fn with_folder(folder: &Path) -> TestNode {
    TestNode::with(|settings| settings.server.media_dir = Some(folder.to_str().unwrap().to_owned()))
}

#[test]
fn the_default_picture_is_built_in() {
    let node = TestNode::start();
    for (method, has_body) in [("GET", true), ("HEAD", false)] {
        let mut raw = Raw::connect(node.address());
        raw.write(format!("{method} /media/default.jpeg HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").as_bytes());
        let (head, body) = raw.read_to_end();
        let head = head.to_ascii_lowercase();
        assert!(head.starts_with("http/1.1 200"), "{head}");
        for line in ["content-type: image/jpeg", "cache-control: public, max-age=", "x-content-type-options: nosniff"] {
            assert!(head.contains(line), "{line} in {head}");
        }
        assert_eq!(!body.is_empty(), has_body);
        if has_body {
            assert_eq!((&body[..4], &body[body.len() - 2..]), (&b"\xff\xd8\xff\xe0"[..], &b"\xff\xd9"[..]), "a JPEG");
            assert!(body.len() < 2048);
        }
    }
}

#[actix_web::test]
async fn without_a_folder_only_the_built_in_picture_is_served() {
    let node = TestNode::start();
    for path in ["/media", "/media/", "/media/a.png", "/media/goods/a.png", "/media/default.jpg"] {
        assert_eq!(node.visitor().get(path).await.code(), "not_found", "{path}");
    }
    let wrong = node.visitor().send(Method::POST, "/media/default.jpeg", None).await;
    assert_eq!((wrong.status, wrong.code()), (405, "method_not_allowed"));
}

#[actix_web::test]
async fn files_of_the_folder_are_served_and_cannot_run() {
    let folder = TempDir::new().unwrap();
    fs::create_dir_all(folder.path().join("goods")).unwrap();
    let script = "<script>alert(1)</script>";
    for (name, text) in [("goods/a.png", "png"), ("사진 1.png", "korean"), ("x.html", script), ("x.svg", script)] {
        fs::write(folder.path().join(name), text).unwrap();
    }
    let node = with_folder(folder.path());
    for (path, kind, text) in [
        ("/media/goods/a.png", "image/png", "png"),
        ("/media/goods/a.png/", "image/png", "png"),
        ("/media/%EC%82%AC%EC%A7%84%201.png", "image/png", "korean"),
        ("/media/x.html", "text/html; charset=utf-8", script),
        ("/media/x.svg", "image/svg+xml", script),
    ] {
        let answer = node.visitor().get(path).await;
        assert_eq!((answer.status, answer.text.as_str()), (200, text), "{path}");
        assert_eq!(header(&answer, "content-type"), kind, "{path}");
        is_inert(&answer);
    }
    let first = node.visitor().get("/media/goods/a.png").await;
    let tag = [("If-None-Match", header(&first, "etag"))];
    let again = node.visitor().send_with(Method::GET, "/media/goods/a.png", None, &tag).await;
    assert_eq!((again.status, again.text.as_str()), (304, ""), "a browser that has it doesn't get it again");
    let part = [("Range", "bytes=1-1")];
    let part = node.visitor().send_with(Method::GET, "/media/goods/a.png", None, &part).await;
    assert_eq!((part.status, part.text.as_str()), (206, "n"));
    let head = node.visitor().send(Method::HEAD, "/media/goods/a.png", None).await;
    assert_eq!((head.status, head.text.as_str()), (200, ""));
    // The built-in picture is not a file.
    fs::write(folder.path().join("default.jpeg"), "mine").unwrap();
    assert_eq!(
        header(&node.user(1).send(Method::HEAD, "/media/default.jpeg", None).await, "content-type"),
        "image/jpeg"
    );
}

#[test]
fn only_plain_files_of_the_folder_are_served() {
    let outer = TempDir::new().unwrap();
    let folder = outer.path().join("media");
    fs::create_dir_all(folder.join("goods/.git")).unwrap();
    let secret = "do not show this";
    for name in ["secret", "media.txt", "media/.hidden", "media/goods/.git/config", "media/goods/b.png"] {
        fs::write(outer.path().join(name), secret).unwrap();
    }
    fs::write(folder.join("goods/a.png"), "a picture").unwrap();
    symlink(outer.path().join("secret"), folder.join("link.png")).unwrap();
    symlink(outer.path(), folder.join("up")).unwrap();
    symlink("goods/a.png", folder.join("own.png")).unwrap();
    fs::remove_file(folder.join("goods/b.png")).unwrap();
    let node = with_folder(&folder);
    for path in [
        "/media",
        "/media/",
        "/media/goods",
        "/media/goods/",
        "/media/missing.png",
        "/media/.hidden",
        "/media/%2ehidden",
        "/media/goods/.git/config",
        "/media/../secret",
        "/media/..%2fsecret",
        "/media/%2e%2e/secret",
        "/media/%2e%2e%2fsecret",
        "/media/%252e%252e%252fsecret",
        "/media/goods/../../secret",
        "/media/goods/..%2f..%2fsecret",
        "/media/..\\secret",
        "/media/%5c..%5csecret",
        "/media//etc/passwd",
        "/media/%2fetc%2fpasswd",
        "/media/%2Fetc/passwd",
        "/media/../media.txt",
        "/media.txt",
        "/media/link.png",
        "/media/up/secret",
        "/media/a%00.png",
        "/media/%ff%fe",
        "/media/a.png%0d%0aX: 1",
        "/media/*",
        "/media/~root",
    ] {
        let mut raw = Raw::connect(node.address());
        raw.write(format!("GET {} HTTP/1.1\r\nHost: x\r\n\r\n", path.replace(' ', "%20")).as_bytes());
        let answer = raw.answer().unwrap();
        assert_eq!((answer.status, answer.code().as_str()), (404, "not_found"), "{path}: {}", answer.head);
        assert!(answer.head.to_ascii_lowercase().contains("x-content-type-options: nosniff"), "{}", answer.head);
        let shown = String::from_utf8_lossy(&answer.body).into_owned();
        assert!(!shown.contains(secret) && !shown.contains("root:") && !shown.contains("/tmp"), "{path}: {shown}");
    }
    let mut raw = Raw::connect(node.address());
    raw.write(b"GET /media/own.png HTTP/1.1\r\nHost: x\r\n\r\n");
    assert_eq!(raw.answer().unwrap().body, b"a picture", "a link within the folder is one of its files");
}
