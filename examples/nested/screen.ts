const TTY = process.stdout.isTTY === true
const FRAMES = ['⠋', '⠙', '⠹', '⠸', '⠼', '⠴', '⠦', '⠧', '⠇', '⠏']
const paint = (code: number, text: string) => (TTY ? `\x1b[${code}m${text}\x1b[0m` : text)

const green = (text: string) => paint(32, text)
export const red = (text: string) => paint(31, text)
export const dim = (text: string) => paint(2, text)
export const bold = (text: string) => paint(1, text)

export function say(text = ''): void {
  process.stdout.write(`${text}\n`)
}

/** Shows a step while it runs, and how long it took. */
export async function step<T>(title: string, work: () => Promise<T>): Promise<T> {
  const started = performance.now()
  const seconds = () => `${((performance.now() - started) / 1000).toFixed(1)} s`
  let frame = 0
  const draw = () => process.stdout.write(`\r\x1b[K${FRAMES[frame++ % FRAMES.length]} ${title} ${dim(seconds())}`)
  const timer = TTY ? setInterval(draw, 80) : undefined
  const finish = (mark: string) => {
    clearInterval(timer)
    say(`${TTY ? '\r\x1b[K' : ''}${mark} ${title} ${dim(seconds())}`)
  }
  try {
    const result = await work()
    finish(green('✔'))
    return result
  } catch (error) {
    finish(red('✘'))
    throw error
  }
}

export interface Check {
  readonly what: string
  readonly passed: boolean
  readonly seen: string
}

/** The closing table: what was checked and what was seen. */
export function printTable(checks: readonly Check[]): void {
  const width = Math.max(...checks.map(({ what }) => what.length))
  const seenWidth = Math.max(...checks.map(({ seen }) => seen.length))
  const line = (left: string, middle: string, right: string) =>
    dim(`${left}${'─'.repeat(3)}${middle}${'─'.repeat(width + 2)}${middle}${'─'.repeat(seenWidth + 2)}${right}`)
  const bar = dim('│')
  say(line('┌', '┬', '┐'))
  for (const { what, passed, seen } of checks) {
    say(`${bar} ${passed ? green('✔') : red('✘')} ${bar} ${what.padEnd(width)} ${bar} ${seen.padEnd(seenWidth)} ${bar}`)
  }
  say(line('└', '┴', '┘'))
}
