import { existsSync, globSync, readFileSync } from 'node:fs'
import { dirname, join, resolve } from 'node:path'
import { expect, test } from 'vitest'

const ROOT = resolve(import.meta.dirname, '..')
const PAGES = ['*.md', 'docs/**/*.md', 'test/**/*.md'].flatMap((pattern) =>
  globSync(pattern, { cwd: ROOT }).filter((path) => !path.includes('node_modules')),
)

test.each(PAGES)('what %s links to and names is there', (page) => {
  const text = readFileSync(join(ROOT, page), 'utf8')
  const links = [...text.matchAll(/\]\((?!https?:|mailto:|#)([^)#\s]+)(?:#[^)]*)?\)/g)].map(([, target]) => target!)
  const files = [...text.matchAll(/`((?:src|agent|workers|proto|test|bin|docs|examples)\/[\w./-]+\.\w+)`/g)].map(
    ([, path]) => path!,
  )
  const missing = [
    ...links.filter((target) => !existsSync(resolve(ROOT, dirname(page), target))),
    ...files.filter((path) => !existsSync(join(ROOT, path))),
  ]
  expect(missing).toEqual([])
})
