//! Erasing a person.

use domain::{
    person::{Person, PersonCommand},
    phone,
    task::{Task, TaskCommand},
};
use eventstore::{ExecuteError, StoreError};
use projections::call_tasks;
use uuid::Uuid;

use crate::{OpContext, ServiceError, Services, stored_answers};

/// A person whose key is destroyed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ErasedPerson {
    /// Pseudonym that stays in the events; it can no longer be linked to the number.
    pub person_id: Uuid,
    pub cancelled_tasks: usize,
    /// Position of the erasure in the log.
    pub position: i64,
}

impl Services {
    /// Erases the person behind a number in E.164: cancels their waiting tasks and destroys the key to their personal data.
    ///
    /// Stored answers and waiting tasks are found with the key, so they are handled first. Answers are deleted a second time at the end,
    /// because a request may have stored one meanwhile. An interrupted erasure can be repeated.
    pub async fn erase_person(&self, op: &OpContext, phone_number: &str) -> Result<ErasedPerson, ServiceError> {
        let company_id = op.company_id();
        let phone_number = phone::to_e164(phone_number, None).map_err(|error| ServiceError::invalid("phone_number", error))?;
        let person_id = self.store.persons().known_by(company_id, &phone_number).await?;
        let person_id = person_id.ok_or_else(|| ServiceError::not_found("person"))?;
        self.wait_for_log(&[call_tasks::READ_MODEL]).await?;
        stored_answers::forget(&self.access, company_id).await?;
        let cancelled_tasks = self.cancel_tasks_of_person(op, person_id).await?;
        let position = self.store.erase_person::<Person>(&op.command, person_id, PersonCommand::Erase).await?;
        stored_answers::forget(&self.access, company_id).await?;
        Ok(ErasedPerson { person_id, cancelled_tasks, position })
    }

    /// Cancels the waiting tasks for a person. Returns their number.
    async fn cancel_tasks_of_person(&self, op: &OpContext, person_id: Uuid) -> Result<usize, StoreError> {
        let mut cancelled = 0;
        for task_id in call_tasks::waiting_for(&self.claims, op.company_id(), person_id).await? {
            match self.store.execute::<Task>(&op.command, task_id, TaskCommand::Cancel).await {
                Ok(committed) => cancelled += committed.events.len(),
                Err(ExecuteError::Refused(_)) => {}
                Err(ExecuteError::Store(error)) => return Err(error),
            }
        }
        Ok(cancelled)
    }
}
