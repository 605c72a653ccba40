//! The lifecycle of an aggregate: never created, present, or deleted.

/// The state of an aggregate: its first event makes it present, and an event may delete it.
///
/// `T` is the data of the aggregate.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Lifecycle<T> {
    /// The stream has no events.
    #[default]
    None,
    Present(Box<T>),
    /// No further command changes it.
    Deleted,
}

/// There is nothing behind the stream: it was never created, or it is deleted. The word names it: `campaign`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("there is no such {0}")]
pub struct Absent(pub &'static str);

impl<T> Lifecycle<T> {
    pub fn new(data: T) -> Self {
        Self::Present(Box::new(data))
    }

    /// The data, while the thing exists.
    pub fn present(&self) -> Option<&T> {
        match self {
            Self::Present(data) => Some(data),
            Self::None | Self::Deleted => None,
        }
    }

    pub fn present_mut(&mut self) -> Option<&mut T> {
        match self {
            Self::Present(data) => Some(data),
            Self::None | Self::Deleted => None,
        }
    }

    /// The data; `what` names the thing in the error.
    pub fn require(&self, what: &'static str) -> Result<&T, Absent> {
        self.present().ok_or(Absent(what))
    }
}
