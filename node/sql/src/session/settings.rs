//! SET: system variables, user variables, names, and the next transaction.

use super::Session;
use crate::connection::BindValues;
use crate::error::{SqlError, SqlResult};
use crate::plan::{IsolationLevel, Query, Scope, SetItem, SetValue};
use crate::types::Value;
use crate::variables::SetTo;

impl Session {
    pub(super) fn set(&mut self, items: &[SetItem], values: BindValues<'_>) -> SqlResult<()> {
        for item in items {
            match item {
                SetItem::Variable { scope, name, value } => {
                    let to = match value {
                        SetValue::Default => SetTo::Default,
                        SetValue::Constant(value) => SetTo::Value(value.clone()),
                        SetValue::Expression(query) => SetTo::Value(self.one_value(query, values)?),
                    };
                    self.set_variable(*scope, name, to)?;
                }
                SetItem::User { name, value } => {
                    let value = match value {
                        SetValue::Default => Value::Null,
                        SetValue::Constant(value) => value.clone(),
                        SetValue::Expression(query) => self.one_value(query, values)?,
                    };
                    self.context.session.lock().user_variables.insert(name.clone(), value);
                }
                SetItem::Names { charset, collation } => {
                    let mut session = self.context.session.lock();
                    session.variables.set_names(charset.as_deref(), collation.as_deref())?;
                }
            }
        }
        Ok(())
    }

    fn one_value(&mut self, query: &Query, values: BindValues<'_>) -> SqlResult<Value> {
        let mut found = Value::Null;
        self.read(query, values, &mut |row| {
            found = row.first().cloned().unwrap_or(Value::Null);
            Ok(())
        })?;
        Ok(found)
    }

    fn set_variable(&mut self, scope: Scope, name: &str, to: SetTo) -> SqlResult<()> {
        let inside = self.slot.lock().txn.is_some() || self.explicit;
        if inside && name == "aurora_mm_session_consistency_level" {
            let text = "Variable 'aurora_mm_session_consistency_level' cannot be changed while a transaction is open";
            return Err(SqlError::new(1568, text));
        }
        let before = self.autocommit();
        self.context.session.lock().variables.set(scope, name, to)?;
        if name == "autocommit" && !before && self.autocommit() {
            // MySQL commits what is open when autocommit is switched on.
            self.commit()?;
        }
        Ok(())
    }

    pub(super) fn set_transaction(
        &mut self,
        scope: Option<Scope>,
        isolation: Option<IsolationLevel>,
        read_only: Option<bool>,
    ) -> SqlResult<()> {
        if isolation == Some(IsolationLevel::Serializable) {
            return Err(SqlError::unsupported("transaction_isolation = SERIALIZABLE"));
        }
        let Some(scope) = scope else {
            if self.explicit {
                let text = "Transaction characteristics can't be changed while a transaction is in progress";
                return Err(SqlError::new(1568, text));
            }
            self.next_isolation = isolation.or(self.next_isolation);
            self.next_read_only = read_only.or(self.next_read_only);
            return Ok(());
        };
        let mut session = self.context.session.lock();
        if let Some(level) = isolation {
            session.variables.set_isolation(scope, level)?;
        }
        if let Some(read_only) = read_only {
            let value = SetTo::Value(Value::Int(i64::from(read_only)));
            session.variables.set(scope, "transaction_read_only", value)?;
        }
        Ok(())
    }
}
