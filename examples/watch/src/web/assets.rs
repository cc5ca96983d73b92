//! The files of the page, part of the program.

use axum::Router;
use axum::http::header;
use axum::routing::get;

use super::App;

const HTML: &str = "text/html; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";
const SVG: &str = "image/svg+xml";

/// Path, type and content.
pub(super) const FILES: [(&str, &str, &str); 13] = [
    ("/", HTML, include_str!("page/index.html")),
    ("/style.css", CSS, include_str!("page/style.css")),
    ("/icon.svg", SVG, include_str!("page/icon.svg")),
    ("/icons.svg", SVG, include_str!("page/icons.svg")),
    ("/api.js", SCRIPT, include_str!("page/api.js")),
    ("/app.js", SCRIPT, include_str!("page/app.js")),
    ("/cameras.js", SCRIPT, include_str!("page/cameras.js")),
    ("/dom.js", SCRIPT, include_str!("page/dom.js")),
    ("/events.js", SCRIPT, include_str!("page/events.js")),
    ("/live.js", SCRIPT, include_str!("page/live.js")),
    ("/masks.js", SCRIPT, include_str!("page/masks.js")),
    ("/settings.js", SCRIPT, include_str!("page/settings.js")),
    ("/strip.js", SCRIPT, include_str!("page/strip.js")),
];

pub(super) fn routes(router: Router<App>) -> Router<App> {
    FILES.into_iter().fold(router, |router, (path, kind, content)| {
        router.route(path, get(async move || ([(header::CONTENT_TYPE, kind)], content)))
    })
}
