import Database from 'libsql'
import { expect, test } from 'vitest'
import { sqliteDriver } from './sqlite-driver.ts'

/** A driver on a database in memory, and the texts that were prepared for it. */
async function open() {
  const database = new Database(':memory:')
  const prepared: string[] = []
  const counting = new Proxy(database, {
    get(target, name) {
      if (name === 'prepare') prepared.push('')
      const value = Reflect.get(target, name, target)
      return typeof value !== 'function'
        ? value
        : (...args: unknown[]) => {
            if (name === 'prepare') prepared[prepared.length - 1] = args[0] as string
            return value.apply(target, args)
          }
    },
  })
  const driver = sqliteDriver(counting)
  await driver.run({ sql: 'CREATE TABLE t (id INTEGER PRIMARY KEY, value TEXT UNIQUE)', args: [] })
  return { driver, prepared }
}

const INSERT = 'INSERT INTO t (id, value) VALUES (?1, ?2)'
const SELECT = 'SELECT id, value FROM t WHERE id >= ?1 ORDER BY id'

test('a text is prepared once, and its arguments and rows are those of each call', async () => {
  const { driver, prepared } = await open()
  prepared.length = 0
  for (let id = 1; id <= 3; id++) await driver.run({ sql: INSERT, args: [id, `v${id}`] })
  expect(await driver.run({ sql: SELECT, args: [3] })).toEqual([{ id: 3, value: 'v3' }])
  expect(await driver.run({ sql: SELECT, args: [2] })).toEqual([
    { id: 2, value: 'v2' },
    { id: 3, value: 'v3' },
  ])
  expect(await driver.run({ sql: SELECT, args: [9] })).toEqual([])
  expect(prepared).toEqual([INSERT, SELECT])
})

test('a failing statement takes its batch along, and works again afterwards', async () => {
  const { driver } = await open()
  const insert = (id: number, value: string) => ({ sql: INSERT, args: [id, value] })
  await expect(driver.batch([insert(1, 'a'), insert(2, 'a')])).rejects.toThrow(
    'datastore-sql: UNIQUE constraint failed: t.value',
  )
  expect(await driver.run({ sql: SELECT, args: [0] })).toEqual([])
  await driver.batch([insert(1, 'a'), insert(2, 'b')])
  expect(await driver.run({ sql: SELECT, args: [0] })).toHaveLength(2)
})

test('a table that changes is read as it is', async () => {
  const { driver } = await open()
  await driver.run({ sql: INSERT, args: [1, 'a'] })
  const all = { sql: 'SELECT id, value FROM t', args: [] }
  expect(await driver.run(all)).toEqual([{ id: 1, value: 'a' }])
  await driver.run({ sql: "ALTER TABLE t ADD COLUMN more TEXT DEFAULT 'm'", args: [] })
  expect(await driver.run(all)).toEqual([{ id: 1, value: 'a' }])
  await driver.run({ sql: 'DROP TABLE t', args: [] })
  await expect(driver.run(all)).rejects.toThrow('no such table: t')
})

test('of texts without end only some are kept', async () => {
  const { driver, prepared } = await open()
  await driver.run({ sql: SELECT, args: [0] })
  for (let size = 1; size <= 300; size++) await driver.run({ sql: `${SELECT} LIMIT ${size}`, args: [0] })
  prepared.length = 0
  await driver.run({ sql: SELECT, args: [0] })
  await driver.run({ sql: `${SELECT} LIMIT 300`, args: [0] })
  expect(prepared).toEqual([SELECT])
})

test('after closing there is an error, not the end of the process', async () => {
  const { driver } = await open()
  await driver.run({ sql: SELECT, args: [0] })
  await driver.close()
  await driver.close()
  await expect(driver.run({ sql: SELECT, args: [0] })).rejects.toThrow('the database is closed')
  await expect(driver.batch([{ sql: INSERT, args: [1, 'a'] }])).rejects.toThrow('the database is closed')
})
