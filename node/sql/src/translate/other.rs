//! Statements as a whole.

use super::TranslateContext;
use super::ast::{Expr, ExprKind, Query as AstQuery, SetPart, Statement as Ast};
use super::binder::Binder;
use super::ddl::collation_of;
use super::scope::Scope;
use crate::error::{SqlError, SqlResult};
use crate::plan::{AlterAction, Ddl, IsolationLevel, Query, SetItem, SetValue, Statement, Transaction};
use crate::types::{ColumnMeta, Value};

/// Plans a parsed statement; also says whether the plan holds for the same text later.
pub(crate) fn plan(statement: &Ast, text: &str, ctx: &TranslateContext<'_>) -> SqlResult<(Statement, bool)> {
    let mut binder = Binder::new(ctx, text);
    let planned = binder.statement(statement)?;
    Ok((planned, binder.cacheable))
}

impl Binder<'_> {
    fn statement(&mut self, statement: &Ast) -> SqlResult<Statement> {
        match statement {
            Ast::Query(query) => {
                let planned = self.whole_query(query)?;
                if query.into.is_empty() {
                    return Ok(Statement::Query(planned));
                }
                if planned.columns.len() != query.into.len() {
                    return Err(SqlError::new(
                        1222,
                        "The used SELECT statements have a different number of columns",
                    ));
                }
                Ok(Statement::SelectInto(planned, query.into.clone()))
            }
            Ast::Insert(insert) => self.insert(insert),
            Ast::Update(update) => self.update(update),
            Ast::Delete(delete) => self.delete(delete),
            Ast::Explain(inner) => {
                let planned = self.statement(inner)?;
                Ok(Statement::Explain(self.explained(planned)?))
            }
            Ast::Transaction(transaction) => {
                if let Transaction::Set { isolation: Some(IsolationLevel::Serializable), .. } = transaction {
                    return Err(SqlError::unsupported("SERIALIZABLE"));
                }
                Ok(Statement::Transaction(transaction.clone()))
            }
            Ast::Set(parts) => {
                self.cacheable = false;
                let items = parts.iter().map(|p| self.set_item(p)).collect::<SqlResult<_>>()?;
                Ok(Statement::Set(items))
            }
            Ast::Use(name) => Ok(Statement::Use(super::binder::canonical_database(name))),
            Ast::Show(show) => self.show(show),
            Ast::Prepare { name, text } => {
                let text = self.expression_query(std::slice::from_ref(text))?;
                Ok(Statement::Prepare { name: name.clone(), text })
            }
            Ast::Execute { name, using } => {
                Ok(Statement::Execute { name: name.clone(), using: using.clone() })
            }
            Ast::Deallocate(name) => Ok(Statement::Deallocate(name.clone())),
            Ast::Do(expressions) => Ok(Statement::Do(self.expression_query(expressions)?)),
            Ast::Kill { connection, id } => Ok(Statement::Kill { connection: *connection, id: *id }),
            Ast::AlterSystem(text) => Ok(Statement::AlterSystem(text.clone())),
            Ast::TableMaintenance { operation, tables } => self.maintenance(operation, tables),
            Ast::Nothing { commits } => Ok(Statement::Nothing { commits: *commits }),
            _ => Ok(Statement::Ddl(self.ddl(statement)?)),
        }
    }

    fn whole_query(&mut self, query: &AstQuery) -> SqlResult<Query> {
        let (sql, columns) = self.query(query)?;
        Ok(self.finish(sql, columns))
    }

    /// `SELECT e, e, …`.
    fn expression_query(&mut self, expressions: &[Expr]) -> SqlResult<Query> {
        self.scopes.push(Scope::new());
        let mut list = Vec::new();
        let mut columns = Vec::new();
        for expr in expressions {
            let bound = self.expr(expr)?;
            list.push(self.sql(&bound));
            columns.push(ColumnMeta::expression(self.written(expr), bound.ty));
        }
        self.scopes.pop();
        Ok(self.finish(format!("SELECT {}", list.join(",")), columns))
    }

    fn ddl(&mut self, statement: &Ast) -> SqlResult<Ddl> {
        Ok(match statement {
            Ast::CreateDatabase { name, if_not_exists, charset, collation } => Ddl::CreateDatabase {
                name: name.clone(),
                if_not_exists: *if_not_exists,
                collation: collation_of(charset.as_deref(), collation.as_deref())?.unwrap_or_default(),
            },
            Ast::DropDatabase { name, if_exists } => {
                Ddl::DropDatabase { name: name.clone(), if_exists: *if_exists }
            }
            Ast::CreateTable(create) => self.create_table(create)?,
            Ast::CreateTableLike { name, like, if_not_exists } => Ddl::CreateTableLike {
                name: self.table_name(name)?,
                like: self.table_name(like)?,
                if_not_exists: *if_not_exists,
            },
            Ast::DropTable { tables, if_exists } => Ddl::DropTable {
                tables: tables.iter().map(|t| self.table_name(t)).collect::<SqlResult<_>>()?,
                if_exists: *if_exists,
            },
            Ast::Truncate(name) => Ddl::Truncate(self.table_name(name)?),
            Ast::RenameTable(pairs) => Ddl::Rename(
                pairs
                    .iter()
                    .map(|(from, to)| Ok((self.table_name(from)?, self.table_name(to)?)))
                    .collect::<SqlResult<_>>()?,
            ),
            Ast::AlterTable { table, items } => self.alter_table(table, items)?,
            Ast::CreateIndex { table, index } => Ddl::Alter {
                table: self.table_name(table)?,
                actions: vec![AlterAction::AddIndex(index.clone())],
            },
            Ast::DropIndex { table, name } => Ddl::Alter {
                table: self.table_name(table)?,
                actions: vec![AlterAction::DropIndex { name: name.clone(), if_exists: false }],
            },
            other => return Err(SqlError::internal(format!("no plan for {other:?}"))),
        })
    }

    fn set_item(&mut self, part: &SetPart) -> SqlResult<SetItem> {
        Ok(match part {
            SetPart::Names { charset, collation } => {
                if let Some(name) = charset.as_deref() {
                    collation_of(Some(name), collation.as_deref())?;
                }
                SetItem::Names { charset: charset.clone(), collation: collation.clone() }
            }
            SetPart::User(name, value) => {
                SetItem::User { name: name.clone(), value: self.set_value(Some(value))? }
            }
            SetPart::System(scope, name, value) => {
                // Before MySQL 8 it had another name, which drivers still use.
                SetItem::Variable {
                    scope: *scope,
                    name: name.clone(),
                    value: self.set_value(value.as_ref())?,
                }
            }
        })
    }

    fn set_value(&mut self, value: Option<&Expr>) -> SqlResult<SetValue> {
        let Some(value) = value else { return Ok(SetValue::Default) };
        let constant = match &value.kind {
            ExprKind::Str(text) => Some(Value::Text(text.clone())),
            ExprKind::Null => Some(Value::Null),
            ExprKind::Bool(value) => Some(Value::Int(i64::from(*value))),
            ExprKind::Int(value) => i64::try_from(*value).ok().map(Value::Int),
            ExprKind::Column { qualifier, name } if qualifier.is_empty() => Some(Value::Text(name.clone())),
            _ => None,
        };
        match constant {
            Some(value) => Ok(SetValue::Constant(value)),
            None => Ok(SetValue::Expression(self.expression_query(std::slice::from_ref(value))?)),
        }
    }
}
