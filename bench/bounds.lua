-- sysbench: transactions that add 1 to 20 neighbouring rows of the same thousand.
sysbench.cmdline.options = { rows = { "Rows that are updated again and again", 1000 }, span = { "Rows in one UPDATE", 20 } }

function thread_init()
  connection = sysbench.sql.driver():connect()
end

function event()
  local first = math.random(1, sysbench.opt.rows - sysbench.opt.span + 1)
  connection:query(string.format("UPDATE bounds SET n = n + 1 WHERE id BETWEEN %d AND %d", first,
    first + sysbench.opt.span - 1))
end

function thread_done()
  connection:disconnect()
end
