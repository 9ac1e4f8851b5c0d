import { spawn } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { expect, test } from 'vitest'

/** What pages tell people to paste works, in a shell as theirs. */

const ROOT = resolve(import.meta.dirname, '../..')

test.each([
  {
    page: 'README.md',
    from: '## A server and an agent',
    says: ['spiffe://example.org/me', 'token(spiffe://example.org/me)'],
  },
  {
    page: 'docs/nested.md',
    from: '# Nested',
    says: ['svid-A/svid.0.pem: OK', 'SVID is valid.', 'spiffe://example.org/A/workload'],
  },
  {
    page: 'docs/labs.md',
    from: '# Three labs',
    says: ['svid.0.pem: OK', 'already been used', 'no identity issued', 'PID attested to have selectors'],
  },
])('$page works when pasted', { timeout: 180_000 }, async ({ page, from, says }) => {
  const folder = mkdtempSync(join(tmpdir(), 'page'))
  try {
    const { code, output } = await paste(commands(page, from).replaceAll('/tmp/turret', join(folder, 't')))
    expect({ code, output }).toMatchObject({ code: 0 })
    for (const text of says) expect(output).toContain(text)
  } finally {
    rmSync(folder, { recursive: true, force: true })
  }
})

/** The blocks of a page from a heading on; the packages are installed already. */
function commands(page: string, from: string): string {
  const text = readFileSync(join(ROOT, page), 'utf8')
  const blocks = text.slice(text.indexOf(from)).matchAll(/^```sh\n(.*?)^```$/gms)
  return [...blocks].map(([, block]) => block!.replace(/^npm ci$/m, '')).join('')
}

/** Runs commands in a shell of their own; whatever they started ends with them. */
async function paste(text: string): Promise<{ code: number | null; output: string }> {
  const shell = spawn('bash', ['-e'], { cwd: ROOT, stdio: ['pipe', 'pipe', 'pipe'] })
  let output = ''
  for (const stream of [shell.stdout, shell.stderr])
    stream.setEncoding('utf8').on('data', (text: string) => {
      output += text
    })
  // Programs in the background hold the shell's output open: they are ended by the shell itself.
  shell.stdin.end(`trap 'kill $(jobs -p) 2> /dev/null || true; wait' EXIT\n${text}`)
  const code = await new Promise<number | null>((done) => shell.on('close', done))
  return { code, output }
}
