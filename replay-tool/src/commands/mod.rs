pub mod export;
pub mod history;
pub mod partitions;
pub mod rebuild;
pub mod seals;
pub mod stats;
pub mod verify;
pub mod what_if;
