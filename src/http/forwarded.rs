//! Finds the address of a client behind proxies, in `X-Forwarded-For` or else in `Forwarded` (RFC 7239). Parses all
//! forms that proxies write: with and without a port, IPv4 and IPv6, quoted, as a list and in several header lines.
//!
//! A client can send these headers too, and a proxy appends on the right. So the client is the first address from the
//! right that is not a trusted proxy, and the search stops at the first part that can't be parsed.

use std::net::{IpAddr, Ipv6Addr};

use actix_web::http::header::{FORWARDED, HeaderMap, HeaderValue, X_FORWARDED_FOR};

/// The client's address: the peer's, or behind trusted proxies the nearest one that is not trusted. If an address can't
/// be parsed, the proxy that passed it on counts as the client.
pub(super) fn client_address(peer: IpAddr, headers: &HeaderMap, trusted: &[IpAddr]) -> IpAddr {
    let mut nearest = peer.to_canonical();
    if !trusted.contains(&nearest) {
        return nearest;
    }
    // Only one of them: a proxy that sets one passes the other on as the client sent it.
    let hops = match headers.contains_key(X_FORWARDED_FOR) {
        true => hops(headers.get_all(X_FORWARDED_FOR), x_forwarded_for),
        false => hops(headers.get_all(FORWARDED), forwarded),
    };
    for hop in hops.into_iter().rev() {
        let Some(address) = hop else { break };
        nearest = address;
        if !trusted.contains(&nearest) {
            break;
        }
    }
    nearest
}

/// One entry of a header; `None` if it is no address.
type Hop = Option<IpAddr>;

/// The hops in all lines of a header, from the farthest to the nearest.
fn hops<'a>(lines: impl Iterator<Item = &'a HeaderValue>, parse_line: fn(&str) -> Option<Vec<Hop>>) -> Vec<Hop> {
    lines.flat_map(|line| line.to_str().ok().and_then(parse_line).unwrap_or_else(|| vec![None])).collect()
}

/// The hops of an `X-Forwarded-For` line.
#[allow(clippy::unnecessary_wraps)] // The same signature as `forwarded`.
fn x_forwarded_for(line: &str) -> Option<Vec<Hop>> {
    Some(line.split(',').map(str::trim).filter(|hop| !hop.is_empty()).map(address).collect())
}

/// The hops of a `Forwarded` line; `None` if a quote does not end, since it may include what a proxy appended.
fn forwarded(line: &str) -> Option<Vec<Hop>> {
    let elements = split(line, ',')?;
    elements.into_iter().filter(|element| !element.trim().is_empty()).map(element).collect()
}

/// The hop of a `Forwarded` element, which must have exactly one `for`.
fn element(element: &str) -> Option<Hop> {
    let pairs = split(element, ';')?;
    let mut nodes = pairs.iter().filter_map(|pair| {
        let (name, value) = pair.split_once('=')?;
        name.trim().eq_ignore_ascii_case("for").then_some(value.trim())
    });
    Some(match (nodes.next(), nodes.next()) {
        (Some(node), None) => address(node),
        _ => None,
    })
}

/// Splits at the separators outside quotes; `None` if a quote does not end.
fn split(text: &str, separator: char) -> Option<Vec<&str>> {
    let (mut parts, mut begin) = (Vec::new(), 0);
    let (mut quoted, mut escaped) = (false, false);
    for (at, character) in text.char_indices() {
        match character {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            _ if character == separator && !quoted => {
                parts.push(&text[begin..at]);
                begin = at + 1;
            }
            _ => {}
        }
    }
    parts.push(&text[begin..]);
    (!quoted).then_some(parts)
}

/// Parses an address with or without brackets and port. An IPv4-mapped IPv6 address becomes IPv4.
fn address(text: &str) -> Hop {
    let text = text.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).unwrap_or(text);
    let is_port = |port: &str| (1..=5).contains(&port.len()) && port.bytes().all(|byte| byte.is_ascii_digit());
    if let Some(rest) = text.strip_prefix('[') {
        let (inside, behind) = rest.split_once(']')?;
        let is_whole = behind.is_empty() || behind.strip_prefix(':').is_some_and(is_port);
        return if is_whole { ipv6(inside) } else { None };
    }
    let with_port = || text.rsplit_once(':').filter(|(_, port)| is_port(port)).map(|(host, _)| host);
    let plain = text.parse().ok().or_else(|| ipv6(text));
    // Without brackets a port may be taken for the last group of an IPv6 address; its /64 network, which counts, is the
    // same.
    let found = plain.or_else(|| with_port()?.parse().ok());
    found.map(|address| address.to_canonical())
}

/// Parses an IPv6 address, without its zone.
fn ipv6(text: &str) -> Hop {
    let address = text.split_once('%').map_or(text, |(address, _)| address);
    address.parse::<Ipv6Addr>().ok().map(|address| IpAddr::from(address).to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;
    use actix_web::http::header::HeaderName;
    use proptest::prelude::*;

    const PROXY: &str = "10.0.0.1";

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    /// The client of a request from the trusted proxy 10.0.0.1; two more addresses are trusted.
    fn client(headers: &[(HeaderName, &str)]) -> String {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(name.clone(), HeaderValue::from_str(value).unwrap());
        }
        client_address(ip(PROXY), &map, &[ip(PROXY), ip("10.0.0.2"), ip("2001:db8::2")]).to_string()
    }

    #[test]
    fn every_form_that_proxies_send_is_parsed() {
        let forms = [
            ("203.0.113.7", "203.0.113.7"),
            (" 203.0.113.7 ", "203.0.113.7"),
            ("203.0.113.7:50000", "203.0.113.7"),
            ("\"203.0.113.7:80\"", "203.0.113.7"),
            ("[203.0.113.7]:80", PROXY),
            ("2001:db8:1::7", "2001:db8:1::7"),
            ("2001:DB8:1:0:0:0:0:7", "2001:db8:1::7"),
            ("[2001:db8:1::7]", "2001:db8:1::7"),
            ("[2001:db8:1::7]:443", "2001:db8:1::7"),
            ("\"[2001:db8:1::7]:443\"", "2001:db8:1::7"),
            ("2001:db8:1:0:0:0:0:7:443", "2001:db8:1::7"),
            ("2001:db8:1::7:50000", "2001:db8:1::7"),
            ("[fe80::7%eth0]:443", "fe80::7"),
            ("fe80::7%25eth0", "fe80::7"),
            ("::ffff:203.0.113.7", "203.0.113.7"),
            ("[::ffff:203.0.113.7]:443", "203.0.113.7"),
            ("::ffff:cb00:7107", "203.0.113.7"),
        ];
        for (form, address) in forms {
            assert_eq!(client(&[(X_FORWARDED_FOR, form)]), address, "{form}");
            assert_eq!(client(&[(FORWARDED, &format!("for={form}"))]), address, "{form}");
            assert_eq!(client(&[(FORWARDED, &format!("proto=https; For = {form} ;by=x"))]), address, "{form}");
        }
    }

    #[test]
    fn the_nearest_address_that_is_not_trusted_is_the_client() {
        for list in [
            "198.51.100.1, 203.0.113.7",
            "203.0.113.7, 10.0.0.2",
            "198.51.100.1,203.0.113.7:1234,[2001:db8::2]:5,  10.0.0.2:443, ::ffff:10.0.0.1",
            "garbage, 203.0.113.7, 10.0.0.2",
            "\", 203.0.113.7",
            ", ,203.0.113.7,,",
        ] {
            assert_eq!(client(&[(X_FORWARDED_FOR, list)]), "203.0.113.7", "{list}");
        }
        for list in [
            "for=198.51.100.1, for=203.0.113.7",
            "for=\"[2001:db8:cafe::17]:4711\";proto=http, for=203.0.113.7;by=10.0.0.2, for=\"[2001:db8::2]\"",
            "for=_hidden, for=203.0.113.7, for=10.0.0.2",
            "for=x;note=\"a, for=198.51.100.1\\\"\", for=203.0.113.7",
        ] {
            assert_eq!(client(&[(FORWARDED, list)]), "203.0.113.7", "{list}");
        }
        let lines =
            [(X_FORWARDED_FOR, "198.51.100.1"), (X_FORWARDED_FOR, "203.0.113.7"), (X_FORWARDED_FOR, "10.0.0.2")];
        assert_eq!(client(&lines), "203.0.113.7");
        let lines = [(FORWARDED, "for=\"unbalanced"), (FORWARDED, "for=203.0.113.7"), (FORWARDED, "for=10.0.0.2")];
        assert_eq!(client(&lines), "203.0.113.7");
        // The proxy sets only one of them, nearly always `X-Forwarded-For`.
        assert_eq!(client(&[(FORWARDED, "for=198.51.100.1"), (X_FORWARDED_FOR, "203.0.113.7")]), "203.0.113.7");
        assert_eq!(client(&[(X_FORWARDED_FOR, "10.0.0.2")]), "10.0.0.2", "a trusted proxy without a client behind it");
    }

    #[test]
    fn the_proxy_that_passed_on_an_unknown_address_is_the_client() {
        let garbage =
            ["unknown", "_hidden", "unix:", "localhost", "203.0.113", "203.0.113.256", "1.2.3.4:x", "1.2.3.4:"];
        let worse =
            ["[2001:db8::7", "[2001:db8::7]x", "[]", ":", "[::1]:", "1.2.3.4:123456", "1.2.3.4 5.6.7.8", "for=1.2.3.4"];
        for text in garbage.into_iter().chain(worse) {
            assert_eq!(client(&[(X_FORWARDED_FOR, &format!("203.0.113.7, {text}"))]), PROXY, "{text}");
            assert_eq!(client(&[(X_FORWARDED_FOR, &format!("203.0.113.7, {text}, 10.0.0.2"))]), "10.0.0.2", "{text}");
            assert_eq!(client(&[(FORWARDED, &format!("for=203.0.113.7, for={text}"))]), PROXY, "{text}");
        }
        // A quote that a client leaves open could include what the proxy appends, or forge it.
        for text in ["proto=https", "for=1.2.3.4;for=5.6.7.8", "x=\", for=1.2.3.4", "x=\"\\, for=\"1.2.3.4\"", "for"] {
            assert_eq!(client(&[(FORWARDED, &format!("for=203.0.113.7, {text}"))]), PROXY, "{text}");
        }
        assert_eq!(client(&[]), PROXY);
        assert_eq!(client(&[(X_FORWARDED_FOR, "")]), PROXY);
        let binary = HeaderValue::from_bytes(b"203.0.113.7, \xff").unwrap();
        let map = HeaderMap::from_iter([(X_FORWARDED_FOR, binary)]);
        assert_eq!(client_address(ip(PROXY), &map, &[ip(PROXY)]).to_string(), PROXY);
    }

    #[test]
    fn headers_count_only_from_trusted_peers_over_ipv4_and_ipv6() {
        let map = HeaderMap::from_iter([(X_FORWARDED_FOR, HeaderValue::from_static("203.0.113.7"))]);
        let of = |peer: &str| client_address(ip(peer), &map, &[ip(PROXY)]).to_string();
        assert_eq!(of("10.0.0.3"), "10.0.0.3");
        assert_eq!(of("::ffff:10.0.0.3"), "10.0.0.3");
        assert_eq!(of("::ffff:10.0.0.1"), "203.0.113.7");
        assert_eq!(client_address(ip(PROXY), &map, &[]).to_string(), PROXY);
    }

    proptest! {
        /// The client that the proxy names is found whatever the client has sent.
        #[test]
        fn a_client_can_not_change_what_the_proxy_appends(left in "[ -~]{0,60}|[ ,;=\"\\\\for0-9.:\\[\\]]{0,60}") {
            prop_assert_eq!(client(&[(X_FORWARDED_FOR, &format!("{left}, 203.0.113.7"))]), "203.0.113.7");
            for own in ["for=203.0.113.7", "for=\"203.0.113.7:80\";proto=\"https\""] {
                let found = client(&[(FORWARDED, &format!("{left}, {own}"))]);
                prop_assert!(found == "203.0.113.7" || found == PROXY, "{}", found);
            }
        }
    }
}
