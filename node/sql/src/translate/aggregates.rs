//! Aggregates and window functions.

use super::ast::{Call, OrderItem, Window};
use super::binder::Binder;
use super::scope::Bound;
use super::typing::{Class, class, decimal, decimal_digits, varchar};
use crate::error::{SqlError, SqlResult};
use crate::types::{ColumnType, LobKind};

/// True for aggregates.
pub(crate) fn is_aggregate(name: &str) -> bool {
    matches!(
        name,
        "count"
            | "sum"
            | "avg"
            | "min"
            | "max"
            | "group_concat"
            | "bit_and"
            | "bit_or"
            | "bit_xor"
            | "std"
            | "stddev"
            | "stddev_pop"
            | "stddev_samp"
            | "variance"
            | "var_pop"
            | "var_samp"
            | "any_value"
            | "json_arrayagg"
            | "json_objectagg"
    )
}

/// True for functions of a window only.
pub(crate) fn is_window(name: &str) -> bool {
    matches!(
        name,
        "row_number"
            | "rank"
            | "dense_rank"
            | "lag"
            | "lead"
            | "ntile"
            | "first_value"
            | "last_value"
            | "nth_value"
            | "percent_rank"
            | "cume_dist"
    )
}

impl Binder<'_> {
    /// An aggregate, or a function of a window.
    pub(crate) fn aggregate(&mut self, call: &Call) -> SqlResult<Bound> {
        if is_window(&call.name) && call.over.is_none() {
            return Err(SqlError::new(
                3579,
                format!("Window function '{}' cannot be used without a window", call.name),
            ));
        }
        if self.in_aggregate && call.over.is_none() {
            return Err(SqlError::new(1111, "Invalid use of group function"));
        }
        if self.scopes.last().is_some_and(|s| s.place == "where clause" || s.place == "on clause") {
            return Err(SqlError::new(1111, "Invalid use of group function"));
        }
        let outer = std::mem::replace(&mut self.in_aggregate, call.over.is_none());
        // Names inside are columns, never aliases of the select list.
        let alias_use = self
            .scopes
            .last_mut()
            .map(|s| std::mem::replace(&mut s.alias_use, super::scope::AliasUse::AfterColumns));
        let bound = self.aggregate_of_args(call);
        if let (Some(alias_use), Some(scope)) = (alias_use, self.scopes.last_mut()) {
            scope.alias_use = alias_use;
        }
        self.in_aggregate = outer;
        if call.over.is_none() {
            self.saw_aggregate = true;
        }
        bound
    }

    fn aggregate_of_args(&mut self, call: &Call) -> SqlResult<Bound> {
        let over = call.over.as_ref().map(|w| self.over(w)).transpose()?;
        if call.star {
            if call.name != "count" {
                return Err(SqlError::syntax(")", 1));
            }
            let over = over.unwrap_or_default();
            return Ok(Bound::new(format!("count(*){over}"), ColumnType::BIGINT).not_null());
        }
        let args = call.args.iter().map(|a| self.expr(a)).collect::<SqlResult<Vec<_>>>()?;
        if is_window(&call.name) {
            return Ok(self.window_function(call, &args, &over.unwrap_or_default()));
        }
        let Some(first) = args.first() else {
            return Err(SqlError::new(
                1582,
                format!("Incorrect parameter count in the call to native function '{}'", call.name),
            ));
        };
        let distinct = if call.distinct { "DISTINCT " } else { "" };
        if let Some(over) = over {
            return Ok(self.aggregate_over(call, first, &over));
        }
        match call.name.as_str() {
            "count" => {
                let sql = self.count_operand(call, &args);
                Ok(Bound::new(format!("count({distinct}{sql})"), ColumnType::BIGINT).not_null())
            }
            "sum" | "avg" => Ok(self.sum_or_average(call, first)),
            "min" | "max" | "any_value" => {
                let sql = self.sql(first);
                let suffix = self.collate_suffix(first);
                let name = if call.name == "any_value" { "my_any_value" } else { &call.name };
                let bound = Bound::new(format!("{name}({sql}{suffix})"), first.ty.clone());
                Ok(self.with_strength(bound, std::slice::from_ref(first)))
            }
            "group_concat" => self.group_concat(call, &args),
            "bit_and" | "bit_or" | "bit_xor" => {
                let sql = self.sql(first);
                Ok(Bound::new(format!("my_{}(to_bits({sql}))", call.name), ColumnType::BIGINT_UNSIGNED)
                    .not_null())
            }
            "json_arrayagg" => {
                let sql = self.json_values(&args).join(",");
                Ok(Bound::new(format!("json_group_array({sql})"), ColumnType::Json))
            }
            "json_objectagg" => {
                let sql = self.json_values(&args).join(",");
                Ok(Bound::new(format!("json_group_object({sql})"), ColumnType::Json))
            }
            name => {
                let ours = match name {
                    "std" | "stddev" | "stddev_pop" => "my_stddev_pop",
                    "stddev_samp" => "my_stddev_samp",
                    "var_samp" => "my_var_samp",
                    _ => "my_var_pop",
                };
                let sql = self.double(first);
                Ok(Bound::new(format!("{ours}({distinct}{sql})"), ColumnType::DOUBLE))
            }
        }
    }

    fn count_operand(&mut self, call: &Call, args: &[Bound]) -> String {
        if let [only] = args {
            let sql = self.sql(only);
            let suffix = if call.distinct { self.collate_suffix(only) } else { String::new() };
            return format!("{sql}{suffix}");
        }
        // Several: one key of all of them, NULL if one is.
        let parts: Vec<String> = args
            .iter()
            .map(|a| {
                let sql = self.sql(a);
                format!("{sql},'{}'", a.ty.sqlite_collation())
            })
            .collect();
        format!("distinct_key({})", parts.join(","))
    }

    fn sum_or_average(&mut self, call: &Call, arg: &Bound) -> Bound {
        let number = self.number(arg);
        let distinct = if call.distinct { "DISTINCT " } else { "" };
        let (precision, scale) = decimal_digits(&number.ty);
        let exact = matches!(class(&number.ty), Class::Int | Class::Decimal) && number.parameter.is_none();
        let sql = self.sql(&number);
        let suffix = if call.distinct { self.collate_suffix(&number) } else { String::new() };
        if !exact {
            return Bound::new(format!("my_{}_real({distinct}{sql}{suffix})", call.name), ColumnType::DOUBLE);
        }
        if call.name == "sum" {
            let ty = decimal(u32::from(precision) + 22, u32::from(scale));
            return Bound::new(format!("my_sum({distinct}{sql}{suffix})"), ty);
        }
        let result = u32::from(scale) + 4;
        let ty = decimal(u32::from(precision) + 4, result);
        // One argument only, because DISTINCT allows no more: the scale is in the name of the caller.
        Bound::new(format!("dec_average(my_average({distinct}{sql}{suffix}),{result})"), ty)
    }

    fn group_concat(&mut self, call: &Call, args: &[Bound]) -> SqlResult<Bound> {
        let separator = call.separator.clone().unwrap_or_else(|| ",".to_owned());
        let separator = Bound::literal(crate::types::Value::Text(separator), varchar(16, self.collation));
        let refs: Vec<&Bound> = args.iter().collect();
        let value = match args {
            [only] => self.sql(only),
            _ => self.render("my_concat", args),
        };
        let collation = match args {
            [only] => only.ty.sqlite_collation(),
            _ => self.common_collation(&refs).sqlite_name(),
        };
        let separator_sql = self.sql(&separator);
        let mut sql = format!("my_group_concat({value},{separator_sql}");
        sql.push_str(&if call.distinct { format!(",'{collation}'") } else { ",''".to_owned() });
        if !call.order_by.is_empty() {
            sql.push_str(&format!(" ORDER BY {}", self.order_terms(&call.order_by)?));
        }
        sql.push(')');
        let mut bound = self.text_result(sql, 1024, &refs);
        bound.ty = ColumnType::Text { kind: LobKind::Normal, collation: self.common_collation(&refs) };
        Ok(bound)
    }

    /// Terms of ORDER BY with their collations.
    pub(crate) fn order_terms(&mut self, items: &[OrderItem]) -> SqlResult<String> {
        let mut terms = Vec::new();
        for item in items {
            let bound = self.expr(&item.expr)?;
            let suffix = self.collate_suffix(&bound);
            let sql = self.sql(&bound);
            terms.push(format!("{sql}{suffix}{}", if item.descending { " DESC" } else { "" }));
        }
        Ok(terms.join(","))
    }

    /// ` OVER (…)`.
    pub(crate) fn over(&mut self, window: &Window) -> SqlResult<String> {
        let inner = self.window_text(window)?;
        Ok(match &window.name {
            Some(name) if inner.is_empty() => format!(" OVER {}", super::scope::quote(name)),
            _ => format!(" OVER ({inner})"),
        })
    }

    /// What stands in the parentheses of a window.
    pub(crate) fn window_text(&mut self, window: &Window) -> SqlResult<String> {
        let mut parts = Vec::new();
        if let Some(name) = &window.name
            && !(window.partition_by.is_empty() && window.order_by.is_empty() && window.frame.is_none())
        {
            parts.push(super::scope::quote(name));
        }
        if !window.partition_by.is_empty() {
            let items: Vec<OrderItem> = window
                .partition_by
                .iter()
                .map(|e| OrderItem { expr: e.clone(), descending: false })
                .collect();
            parts.push(format!("PARTITION BY {}", self.order_terms(&items)?));
        }
        if !window.order_by.is_empty() {
            parts.push(format!("ORDER BY {}", self.order_terms(&window.order_by)?));
        }
        parts.extend(window.frame.clone());
        Ok(parts.join(" "))
    }

    fn window_function(&mut self, call: &Call, args: &[Bound], over: &str) -> Bound {
        let sql = self.render(&call.name, args);
        let ty = match call.name.as_str() {
            "row_number" | "rank" | "dense_rank" | "ntile" => ColumnType::BIGINT_UNSIGNED,
            "percent_rank" | "cume_dist" => ColumnType::DOUBLE,
            _ => args.first().map_or(ColumnType::Null, |a| a.ty.clone()),
        };
        let bound = Bound::new(format!("{sql}{over}"), ty);
        self.with_strength(bound, &args[..args.len().min(1)])
    }

    /// SQLite's own aggregates serve as window functions: ours have no inverse.
    fn aggregate_over(&mut self, call: &Call, first: &Bound, over: &str) -> Bound {
        match call.name.as_str() {
            "sum" | "avg" => {
                let number = self.number(first);
                let (precision, scale) = decimal_digits(&number.ty);
                let sql = self.sql(&number);
                match class(&number.ty) {
                    Class::Int if call.name == "sum" => Bound::new(
                        format!("CAST(sum({sql}){over} AS TEXT)"),
                        decimal(u32::from(precision) + 22, 0),
                    ),
                    Class::Int | Class::Decimal => {
                        let scale = u32::from(scale) + if call.name == "avg" { 4 } else { 0 };
                        let inner = format!("{}(CAST({sql} AS REAL)){over}", call.name);
                        Bound::new(
                            format!("dec_cast({inner},65,{scale})"),
                            decimal(u32::from(precision) + 22, scale),
                        )
                    }
                    _ => Bound::new(format!("{}({sql}){over}", call.name), ColumnType::DOUBLE),
                }
            }
            "count" => {
                let sql = self.sql(first);
                Bound::new(format!("count({sql}){over}"), ColumnType::BIGINT).not_null()
            }
            name => {
                let sql = self.sql(first);
                let suffix = self.collate_suffix(first);
                Bound::new(format!("{name}({sql}{suffix}){over}"), first.ty.clone())
            }
        }
    }
}
