//! Who may ask: the token, and protection of a browser's user against other pages.
//!
//! - Without a token only this machine is served. A page from elsewhere could still reach the server through the user's
//!   browser: by a name that resolves to this machine (DNS rebinding), or by sending requests blindly. So the `Host` must be
//!   this machine, and a request from another page is refused (`Origin`, `Sec-Fetch-Site`).
//! - With a token every request must present it: as `Authorization: Bearer`, or as a cookie that `/?token=…` sets.

use std::hint::black_box;
use std::net::Ipv4Addr;
use std::sync::Arc;

use axum::extract::{Query, Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri, header};
use axum::middleware::Next;
use axum::response::{Html, IntoResponse, Response};
use serde::Deserialize;

use super::Refusal;

const COOKIE: &str = "watch-token";
const COOKIE_SECONDS: u32 = 365 * 86_400;

/// Sent with every answer. Nothing but the page's own files is loaded, and no other page embeds it.
const HEADERS: [(HeaderName, &str); 7] = [
    (
        header::CONTENT_SECURITY_POLICY,
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; media-src 'self'; connect-src 'self'; \
         form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    ),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::X_FRAME_OPTIONS, "DENY"),
    (header::REFERRER_POLICY, "no-referrer"),
    (
        HeaderName::from_static("cross-origin-opener-policy"),
        "same-origin",
    ),
    (
        HeaderName::from_static("cross-origin-resource-policy"),
        "same-origin",
    ),
    (header::CACHE_CONTROL, "no-cache"),
];

/// A form that asks for the token.
const LOGIN: &str = "<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content='width=device-width'>\
    <title>Watch</title><link rel=stylesheet href=/style.css><link rel=icon href=/icon.svg>\
    <form class=login><h1>Watch</h1><label for=token>Token</label>\
    <input id=token name=token type=password autocomplete=current-password required autofocus>\
    <button class=primary>Open</button></form>";

/// Loads the page again without the token in its address. A redirect would not do: one that starts at another site's link
/// is sent without a cookie that is `SameSite=Strict`.
const ENTERED: &str =
    "<!doctype html><meta charset=utf-8><meta http-equiv=refresh content='0;url=/'><title>Watch</title>";

/// Decides about requests.
#[derive(Debug)]
pub(super) struct Guard {
    token: Option<Token>,
}

#[derive(Debug)]
struct Token {
    text: String,
    /// In hexadecimal digits: any text is a valid cookie.
    cookie: String,
}

#[derive(Deserialize)]
struct Entry {
    token: Option<String>,
}

impl Guard {
    pub(super) fn new(token: Option<&str>) -> Self {
        let token = token.map(|text| Token {
            text: text.to_owned(),
            cookie: text.bytes().map(|byte| format!("{byte:02x}")).collect(),
        });
        Self { token }
    }

    /// `Some` is the answer to a request that is not passed on.
    fn answer(&self, request: &Request) -> Option<Response> {
        let headers = request.headers();
        if let Err(refusal) = self.check_host(headers).and_then(|()| check_site(request)) {
            return Some(refusal.into_response());
        }
        let token = self.token.as_ref()?;
        let path = request.uri().path();
        // What the form needs.
        if matches!(path, "/style.css" | "/icon.svg") {
            return None;
        }
        if path == "/" && request.method() == Method::GET {
            if let Some(given) = query_token(request.uri()) {
                return Some(match same(&given, &token.text) {
                    true => ([(header::SET_COOKIE, token.set_cookie())], Html(ENTERED)).into_response(),
                    false => login(),
                });
            }
            return (!token.is_presented(headers)).then(login);
        }
        (!token.is_presented(headers)).then(|| {
            let refusal = Refusal::new(StatusCode::UNAUTHORIZED, "this needs the token");
            ([(header::WWW_AUTHENTICATE, "Bearer")], refusal).into_response()
        })
    }

    fn check_host(&self, headers: &HeaderMap) -> Result<(), Refusal> {
        let mut hosts = headers.get_all(header::HOST).iter();
        let (Some(host), None) = (hosts.next(), hosts.next()) else {
            return Err(Refusal::new(StatusCode::BAD_REQUEST, "a request needs one Host"));
        };
        // A browser has no cookie of another name, so with a token every name will do.
        if self.token.is_some() || host.to_str().is_ok_and(is_this_machine) {
            return Ok(());
        }
        Err(Refusal::new(
            StatusCode::MISDIRECTED_REQUEST,
            "without a token only localhost is served",
        ))
    }
}

impl Token {
    fn set_cookie(&self) -> String {
        let Token { cookie, .. } = self;
        format!("{COOKIE}={cookie}; Path=/; Max-Age={COOKIE_SECONDS}; HttpOnly; SameSite=Strict")
    }

    fn is_presented(&self, headers: &HeaderMap) -> bool {
        let text = |value: &'_ HeaderValue| value.to_str().map(str::to_owned).ok();
        if let Some(header) = headers.get(header::AUTHORIZATION).and_then(text) {
            let bearer = header
                .split_once(' ')
                .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"));
            return bearer.is_some_and(|(_, given)| same(given.trim(), &self.text));
        }
        headers
            .get_all(header::COOKIE)
            .iter()
            .filter_map(text)
            .any(|cookies| {
                let mut cookies = cookies
                    .split(';')
                    .filter_map(|cookie| cookie.trim().split_once('='));
                cookies.any(|(name, given)| name == COOKIE && same(given, &self.cookie))
            })
    }
}

/// Whether two texts are equal, in a time that only depends on the length of `given`.
fn same(given: &str, expected: &str) -> bool {
    let mut expected_bytes = expected.bytes().cycle();
    let different = given.bytes().fold(0, |different, byte| {
        black_box(different | (byte ^ expected_bytes.next().unwrap_or_default()))
    });
    different == 0 && given.len() == expected.len()
}

fn query_token(uri: &Uri) -> Option<String> {
    Query::<Entry>::try_from_uri(uri).ok()?.0.token
}

fn login() -> Response {
    (StatusCode::UNAUTHORIZED, Html(LOGIN)).into_response()
}

/// Whether a `Host` is this machine, with any port.
fn is_this_machine(host: &str) -> bool {
    let Ok(authority) = host.parse::<axum::http::uri::Authority>() else {
        return false;
    };
    let name = authority.host();
    name.eq_ignore_ascii_case("localhost")
        || name == "[::1]"
        || name
            .parse::<Ipv4Addr>()
            .is_ok_and(|address| address.is_loopback())
}

/// Refuses requests that a browser sends for another site's page.
fn check_site(request: &Request) -> Result<(), Refusal> {
    let headers = request.headers();
    let get = |name: &str| headers.get(name).map(|value| value.to_str().unwrap_or("?"));
    let refused = |reason: &str| Err(Refusal::new(StatusCode::FORBIDDEN, reason));
    let site = get("sec-fetch-site");
    if request.method().is_safe() {
        // Links from elsewhere are fine.
        return match site == Some("cross-site") && get("sec-fetch-mode") != Some("navigate") {
            true => refused("another site's page may not load this"),
            false => Ok(()),
        };
    }
    // A program other than a browser sends neither.
    if site.is_some_and(|site| site != "same-origin") {
        return refused("another page may not change anything");
    }
    if let Some(origin) = get("origin") {
        let of_origin = origin.split_once("://").map(|(_, authority)| authority);
        if of_origin != get("host") {
            return refused("another page may not change anything");
        }
    }
    Ok(())
}

/// Passes on what may be asked, and adds the headers of every answer.
pub(super) async fn check(State(guard): State<Arc<Guard>>, request: Request, next: Next) -> Response {
    let mut response = match guard.answer(&request) {
        Some(response) => response,
        None => next.run(request).await,
    };
    let headers = response.headers_mut();
    for (name, value) in HEADERS {
        headers.entry(name).or_insert(HeaderValue::from_static(value));
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_equal_texts_are_the_same() {
        assert!(same("a secret", "a secret"));
        for (given, expected) in [
            ("", "a"),
            ("a", ""),
            ("aa", "a"),
            ("a", "aa"),
            ("b", "a"),
            ("abab", "ab"),
        ] {
            assert!(!same(given, expected), "{given:?} and {expected:?}");
        }
    }

    #[test]
    fn only_names_and_addresses_of_this_machine_are_local() {
        for host in [
            "localhost",
            "LOCALHOST:80",
            "127.0.0.1:8080",
            "127.1.2.3",
            "[::1]:8080",
        ] {
            assert!(is_this_machine(host), "{host}");
        }
        for host in [
            "",
            "example.org",
            "localhost.example.org",
            "10.0.0.1",
            "127.0.0.1.example.org",
            "[::2]",
            "a@b@c",
        ] {
            assert!(!is_this_machine(host), "{host}");
        }
    }
}
