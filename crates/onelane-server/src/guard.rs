//! Who may talk to the server. Loopback is no fence against a web page: a page elsewhere can make the visitor's
//! browser send requests here, and DNS rebinding gives such a page our address under its own name.

use std::net::IpAddr;
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, Uri, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use crate::ServerConfig;
use crate::problem::{ApiError, Code};

/// What the guard knows.
#[derive(Clone)]
pub(crate) struct Known {
    config: Arc<ServerConfig>,
    /// Clients tell by it whether it is Onelane that answers.
    name: Option<HeaderValue>,
}

impl Known {
    pub(crate) fn of(config: Arc<ServerConfig>) -> Self {
        let name = HeaderValue::try_from(format!("onelane/{}", config.version)).ok();
        Self { config, name }
    }
}

pub(crate) async fn guard(State(known): State<Known>, request: Request, next: Next) -> Response {
    let mut response = match check(&known.config, request.uri(), request.headers()) {
        Ok(()) => next.run(request).await,
        Err(error) => error.into_response(),
    };
    let headers = response.headers_mut();
    headers.insert(
        header::X_CONTENT_TYPE_OPTIONS,
        HeaderValue::from_static("nosniff"),
    );
    headers.insert(header::X_FRAME_OPTIONS, HeaderValue::from_static("DENY"));
    if let Some(name) = known.name {
        headers.insert(header::SERVER, name);
    }
    response
}

fn check(config: &ServerConfig, uri: &Uri, headers: &HeaderMap) -> Result<(), ApiError> {
    let text = |name| {
        headers
            .get(name)
            .map(|v: &HeaderValue| v.to_str().unwrap_or("?"))
    };
    let host =
        text(header::HOST).or_else(|| uri.authority().map(axum::http::uri::Authority::as_str));
    let host = host.unwrap_or_default();
    if !host_is_known(config, host) {
        let shown: String = host.chars().take(100).collect();
        return Err(ApiError::new(
            Code::UnknownHost,
            format!(
                "the server does not answer for host `{shown}`; add it to `hosts` in the `[server]` section"
            ),
        ));
    }
    let cross_site = text(header::HeaderName::from_static("sec-fetch-site")) == Some("cross-site");
    let foreign = text(header::ORIGIN).is_some_and(|origin| !origin_is_ours(config, origin, host));
    if cross_site || foreign {
        return Err(ApiError::new(
            Code::ForeignOrigin,
            "requests that another site's page sends are refused; if the site is yours, add its host to `hosts` in the \
             `[server]` section",
        ));
    }
    Ok(())
}

/// Host without port, brackets and trailing dot, in small letters.
fn bare(host: &str) -> String {
    let name = match host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((v6, _)) => v6,
        None => host.rsplit_once(':').map_or(host, |(name, _)| name),
    };
    name.trim_end_matches('.').to_ascii_lowercase()
}

fn is_configured(config: &ServerConfig, host: &str) -> bool {
    config
        .hosts
        .iter()
        .any(|known| known.eq_ignore_ascii_case(host) || known.eq_ignore_ascii_case(&bare(host)))
}

fn host_is_known(config: &ServerConfig, host: &str) -> bool {
    let name = bare(host);
    let is_address_of_ours = name.parse::<IpAddr>().is_ok_and(|ip| {
        // Rebinding needs a name: an address in `Host` is the address that was really asked.
        ip.is_loopback() || ip == config.listen.ip() || config.listen.ip().is_unspecified()
    });
    name == "localhost" || is_address_of_ours || is_configured(config, host)
}

/// The very host and port that were asked, or a configured host (a proxy may have rewritten `Host`).
fn origin_is_ours(config: &ServerConfig, origin: &str, host: &str) -> bool {
    let Some((scheme, authority)) = origin.split_once("://") else {
        return false;
    };
    let default_port = if scheme == "https" { ":443" } else { ":80" };
    let plain = |text: &str| {
        text.strip_suffix(default_port)
            .unwrap_or(text)
            .to_ascii_lowercase()
    };
    plain(authority) == plain(host) || is_configured(config, authority)
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::body::Body;
    use axum::http::StatusCode;
    use axum::{Router, middleware, routing};
    use tower::ServiceExt;

    async fn ask(headers: &[(&str, &str)]) -> StatusCode {
        let config = ServerConfig {
            hosts: vec!["lab.example".into()],
            listen: "127.0.0.1:8000".parse().unwrap(),
            process_control: "guard".to_owned(),
            tools: crate::ToolsSource::Builtin,
            version: "0".into(),
        };
        let app = Router::new().route("/", routing::get(async || "in")).layer(
            middleware::from_fn_with_state(Known::of(Arc::new(config)), guard),
        );
        let mut request = Request::builder().uri("/");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        app.oneshot(request.body(Body::empty()).unwrap())
            .await
            .unwrap()
            .status()
    }

    #[tokio::test]
    async fn known_hosts_come_in_and_others_stay_out() {
        for host in [
            "localhost:8000",
            "127.0.0.1:8000",
            "[::1]:1",
            "LAB.example",
            "lab.example:443",
            "localhost.",
        ] {
            assert_eq!(ask(&[("host", host)]).await, StatusCode::OK, "{host}");
        }
        for host in [
            "evil.example",
            "127.0.0.1.evil.example",
            "10.0.0.1",
            "localhost.evil.example:8000",
            "",
        ] {
            assert_eq!(
                ask(&[("host", host)]).await,
                StatusCode::FORBIDDEN,
                "{host}"
            );
        }
        assert_eq!(ask(&[]).await, StatusCode::FORBIDDEN);
    }

    #[tokio::test]
    async fn a_page_of_another_origin_stays_out() {
        let host = ("host", "localhost:8000");
        for ours in ["http://localhost:8000", "https://lab.example"] {
            assert_eq!(
                ask(&[host, ("origin", ours)]).await,
                StatusCode::OK,
                "{ours}"
            );
        }
        for foreign in [
            "null",
            "https://evil.example",
            "http://localhost:3000",
            "http://localhost",
        ] {
            assert_eq!(
                ask(&[host, ("origin", foreign)]).await,
                StatusCode::FORBIDDEN,
                "{foreign}"
            );
        }
        assert_eq!(
            ask(&[host, ("sec-fetch-site", "cross-site")]).await,
            StatusCode::FORBIDDEN
        );
        assert_eq!(
            ask(&[host, ("sec-fetch-site", "same-origin")]).await,
            StatusCode::OK
        );
    }
}
