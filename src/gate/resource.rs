//! A route as a protected resource of OAuth 2.0 (RFC 9728): where clients find which authorization servers' tokens it
//! accepts.

/// One route's metadata.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resource {
    /// The resource's identifier, which also counts as an `aud`: `from` as written.
    pub address: String,
    /// The path of `from`, by which its metadata is asked for.
    path: String,
    /// The metadata's URL, for challenges.
    pub metadata: String,
    pub authorization_servers: Vec<String>,
    pub scopes: Vec<String>,
}

/// RFC 9728, 3: the resource's path follows it.
pub const WELL_KNOWN: &str = "/.well-known/oauth-protected-resource";

impl Resource {
    /// `origin`: scheme, host and port; `path`: at least `/`.
    pub fn new(
        origin: &str,
        path: &str,
        address: String,
        authorization_servers: Vec<String>,
        scopes: Vec<String>,
    ) -> Self {
        // 3.1: a slash that is all of the path is left out.
        let path = if path == "/" { "" } else { path };
        let metadata = format!("{origin}{WELL_KNOWN}{path}");
        Resource { address, path: path.to_owned(), metadata, authorization_servers, scopes }
    }

    /// Whether its metadata are meant by what follows [`WELL_KNOWN`].
    pub fn is_at(&self, path: &str) -> bool {
        self.path.trim_end_matches('/') == path.trim_end_matches('/')
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_well_known_path_goes_before_the_resource_s_own() {
        let check = |path: &str, metadata: &str, asked: &str| {
            let resource = Resource::new("https://a.test", path, String::new(), Vec::new(), Vec::new());
            assert_eq!(resource.metadata, format!("https://a.test{metadata}"));
            assert!(resource.is_at(asked), "{asked}");
            assert!(!resource.is_at("/other") && !resource.is_at(&format!("{path}x")));
        };
        check("/", "/.well-known/oauth-protected-resource", "");
        check("/", "/.well-known/oauth-protected-resource", "/");
        check("/mcp", "/.well-known/oauth-protected-resource/mcp", "/mcp");
        check("/a/mcp/", "/.well-known/oauth-protected-resource/a/mcp/", "/a/mcp");
    }
}
