//! `auth.dev_login`: whom it gives a token. What it refuses in a body is in `bad_input`.

use crate::support::{Raw, TestNode};

/// A page of another site lets its own name lead to a developer's machine: to the browser it is then of the service's
/// own origin, and may read the answers.
#[actix_web::test]
async fn a_name_that_is_not_this_machines_own_gets_no_token() {
    let node = TestNode::with(|settings| settings.auth.dev_login = true);
    let status = |head: &str| {
        let mut raw = Raw::connect(node.address());
        raw.write(format!("POST /dev/token HTTP/1.1\r\n{head}Content-Length: 13\r\n\r\n{{\"user_id\":7}}").as_bytes());
        let answer = raw.answer().unwrap();
        (answer.status, String::from_utf8(answer.body).unwrap().contains("\"token\""))
    };
    for own in ["localhost", "LOCALHOST:8000", "127.0.0.1:8000", "127.1.2.3", "[::1]:8000", "[::1]"] {
        assert_eq!(status(&format!("Host: {own}\r\n")), (200, true), "{own}");
    }
    for name in ["evil.example:8000", "localhost.evil.example", "127.0.0.1.evil.example", "192.0.2.1", "[2001:db8::1]"]
    {
        let origin = format!("Host: {name}\r\nOrigin: http://{name}\r\n");
        assert_eq!(status(&origin), (403, false), "{name}");
    }
    assert_eq!(status("Host: localhost@evil.example\r\n"), (403, false));
    assert_eq!(status(""), (400, false), "HTTP/1.1 wants a name");
}
