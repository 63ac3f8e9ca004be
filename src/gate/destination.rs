//! COPY and MOVE of WebDAV write to where `Destination` says (RFC 4918, 10.3). It is judged as the path of the request is:
//! whatever host it names, since apps differ in what they make of that.

use crate::gate::host::Host;
use crate::gate::path::CanonicalPath;
use crate::gate::refusal::Refusal;
use crate::gate::route::Route;
use crate::gate::table::Table;
use crate::telemetry::reason::Reason;
use http::{HeaderMap, HeaderName, Method};
use std::sync::Arc;

const DESTINATION: HeaderName = HeaderName::from_static("destination");

/// # Errors
/// It is not one path whose readings all lead to the route of the request. Nothing is rewritten: where the app's paths are
/// others than the client's, none is right.
pub(super) fn check(
    table: &Table,
    route: &Arc<Route>,
    host: Option<&Host>,
    method: &Method,
    headers: &HeaderMap,
) -> Result<(), Refusal> {
    if !matches!(method.as_str(), "COPY" | "MOVE") {
        return Ok(());
    }
    let bad = Refusal::of(Reason::BadRequest);
    let mut all = headers.get_all(&DESTINATION).iter();
    let value = match (all.next(), all.next()) {
        (None, _) => return Ok(()),
        (Some(value), None) if !route.changes_paths() => value,
        _ => return Err(bad),
    };
    let Ok(path) = CanonicalPath::of(value.as_bytes()) else { return Err(bad) };
    let is_here = |reading: &[u8]| table.find(host, method, reading).is_some_and(|found| Arc::ptr_eq(found, route));
    match path.every_reading(is_here) {
        Ok(true) => Ok(()),
        _ => Err(bad),
    }
}
