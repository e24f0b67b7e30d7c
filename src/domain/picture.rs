//! Pictures of goods and users: a path of the marketplace, or an https URL of another place. The existing client prefixes
//! each picture with the server's own origin, so of a URL it gets a path below `/media/x/`, which leads to the URL.

use std::{borrow::Cow, fmt};

use url::Url;

use super::{GoodsId, UserId};

/// The longest path, in characters.
const MAX_PATH_CHARS: usize = 256;
/// The longest URL, in bytes.
const MAX_URL_BYTES: usize = 2048;

/// Whose picture it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PictureId {
    /// A picture of goods, by its position among them, from 0.
    Goods(GoodsId, usize),
    User(UserId),
}

impl PictureId {
    /// Parses what [`Display`](fmt::Display) writes.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        if let Some(user) = text.strip_prefix('u') {
            return UserId::parse(user).map(Self::User);
        }
        let (goods, position) = text.strip_prefix('g')?.split_once('-')?;
        let is_number =
            position == "0" || (position.len() <= 2 && position.starts_with(|c: char| ('1'..='9').contains(&c)));
        let position = position.parse().ok().filter(|_| is_number)?;
        GoodsId::parse(goods).map(|goods| Self::Goods(goods, position))
    }
}

impl fmt::Display for PictureId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Goods(goods, position) => write!(f, "g{goods}-{position}"),
            Self::User(user) => write!(f, "u{user}"),
        }
    }
}

/// Parses a picture as clients give it. A URL is returned in its standard form.
pub(crate) fn parse_picture(text: &str) -> Option<String> {
    if text.starts_with("https:") {
        return parse_url(text);
    }
    let length_ok = (1..=MAX_PATH_CHARS).contains(&text.chars().count());
    let is_path = length_ok
        && !text.starts_with("//")
        && !text.chars().any(|c| c.is_control() || c == '\\' || c == ':')
        && !text.split('/').any(|part| part == "..");
    is_path.then(|| text.to_owned())
}

fn parse_url(text: &str) -> Option<String> {
    if text.len() > MAX_URL_BYTES || text.chars().any(|c| c.is_control() || c == '\\') {
        return None;
    }
    let url = Url::parse(text).ok()?;
    let is_plain = url.scheme() == "https" && url.username().is_empty() && url.password().is_none();
    (is_plain && url.as_str().len() <= MAX_URL_BYTES && text.starts_with("https://")).then(|| url.into())
}

/// Whether a stored picture is a URL.
pub(crate) fn is_url(picture: &str) -> bool {
    picture.starts_with("https://")
}

/// The path by which clients get a stored picture.
pub(crate) fn picture_path(picture: &str, id: PictureId) -> Cow<'_, str> {
    if is_url(picture) { Cow::Owned(format!("/media/x/{id}")) } else { Cow::Borrowed(picture) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_picture_is_a_path_or_an_https_url() {
        for path in ["/media/goods/a.png", "goods/a.png", "/media/가방.png"] {
            assert_eq!(parse_picture(path).as_deref(), Some(path));
        }
        let url = |text: &str| parse_picture(text);
        assert_eq!(url("https://img.example/a b.png").as_deref(), Some("https://img.example/a%20b.png"));
        assert_eq!(url("https://IMG.example").as_deref(), Some("https://img.example/"));
        assert!(url(&format!("https://img.example/{}", "a".repeat(2000))).is_some());
        let long = format!("https://img.example/{}", "가".repeat(300));
        for wrong in [
            "http://img.example/a.png",
            "https:img.example",
            "https://",
            "https://user@img.example/a.png",
            "https://:p@img.example/a.png",
            "https://img.example/a\r\nSet-Cookie: a=b",
            "HTTPS://img.example/a.png",
            "//img.example/a.png",
            "javascript:1",
            "data:image/png;base64,AA==",
            "/media/../../etc/passwd",
            "",
            "a\nb",
            &long,
        ] {
            assert_eq!(url(wrong), None, "{wrong:?}");
        }
    }

    #[test]
    fn only_a_url_gets_a_path_of_its_own() {
        let (goods, user) = (GoodsId::from_stored(12), UserId::from_stored(7));
        assert_eq!(picture_path("/media/a.png", PictureId::Goods(goods, 0)), "/media/a.png");
        assert_eq!(picture_path("https://img.example/a", PictureId::Goods(goods, 3)), "/media/x/g12-3");
        assert_eq!(picture_path("https://img.example/a", PictureId::User(user)), "/media/x/u7");
        for id in [PictureId::Goods(goods, 0), PictureId::Goods(goods, 19), PictureId::User(user)] {
            assert_eq!(PictureId::parse(&id.to_string()), Some(id));
        }
        for wrong in
            ["", "g", "u", "g12", "g12-", "g12-01", "g12--1", "g12-+1", "g12-100", "u0", "u-1", "u7-0", "x7", "g0-0"]
        {
            assert_eq!(PictureId::parse(wrong), None, "{wrong:?}");
        }
    }
}
