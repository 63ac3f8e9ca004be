//! The first look at a provider after the start. What needs the metadata or the keys before it is over waits for its end:
//! to fail at once would refuse for some milliseconds what is good.

use std::time::Duration;
use tokio::sync::watch;
use tokio::time::timeout;

pub(super) struct FirstLook(watch::Sender<bool>);

impl Default for FirstLook {
    fn default() -> Self {
        FirstLook(watch::channel(false).0)
    }
}

impl FirstLook {
    /// Whether it succeeded or not.
    pub(super) fn end(&self) {
        self.0.send_replace(true);
    }

    /// Waits for its end; returns whether there was anything to wait for.
    pub(super) async fn wait(&self, at_most: Duration) -> bool {
        let is_over = *self.0.borrow();
        if !is_over {
            let _ = timeout(at_most, self.0.subscribe().wait_for(|over| *over)).await; // what is known then decides
        }
        !is_over
    }
}
