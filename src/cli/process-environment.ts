import { CommandError } from './failure.ts'

/**
 * Switches of a runtime that open a debugger, run code of somebody else, write memory, keys or environment to files, or drop checks of TLS.
 * Whoever may set a service's environment can do most of that anyway; here it is a leftover of a developer, or a mistake.
 */
const SWITCHES =
  /^(?:-r|--(?:inspect|require|import|loader|experimental-loader|report-|heapsnapshot|heap-prof|cpu-prof|diagnostic-dir|tls-keylog|tls-min|tls-max|tls-cipher|insecure-http-parser|security-revert|preload|unsafely-ignore-certificate-errors))/

/** Variables with such a meaning, whatever is in them. */
const VARIABLES = [
  'BUN_INSPECT',
  'BUN_INSPECT_CONNECT_TO',
  'BUN_INSPECT_NOTIFY',
  'BUN_INSPECT_PRELOAD',
  'SSLKEYLOGFILE',
]
/** Variables that hold switches. */
const OPTIONS = ['NODE_OPTIONS', 'BUN_OPTIONS']

/**
 * Ends the start of a service in an environment that takes its keys out of its hands.
 * @param execArgv switches that the runtime was started with
 * @throws CommandError that says what to remove
 */
export function checkEnvironment(env: Readonly<Record<string, string | undefined>>, execArgv: readonly string[]): void {
  for (const name of VARIABLES) if (env[name]) throw refused(`the variable ${name}`)
  if (env.NODE_TLS_REJECT_UNAUTHORIZED === '0') throw refused('the variable NODE_TLS_REJECT_UNAUTHORIZED=0')
  for (const name of OPTIONS) {
    const found = (env[name] ?? '').split(/\s+/).find((word) => SWITCHES.test(word))
    if (found !== undefined) throw refused(`${nameOf(found)} in the variable ${name}`)
  }
  const found = execArgv.find((word) => SWITCHES.test(word))
  if (found !== undefined) throw refused(`the switch ${nameOf(found)}`)
}

function nameOf(word: string): string {
  return word.split('=')[0]!
}

function refused(what: string): CommandError {
  return new CommandError(`${what} would open this process, which holds private keys, to others: start it without`)
}
