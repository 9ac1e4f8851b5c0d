import { expect, test } from 'vitest'
import { checkEnvironment } from './process-environment.ts'

test.each<[Record<string, string>, string[], string]>([
  [{ NODE_OPTIONS: '--max-old-space-size=512 --inspect=0.0.0.0:9229' }, [], '--inspect in the variable NODE_OPTIONS'],
  [{ NODE_OPTIONS: '-r ./hook.js' }, [], '-r in the variable NODE_OPTIONS'],
  [{ NODE_OPTIONS: '--report-on-signal' }, [], '--report-on-signal in'],
  [{ NODE_OPTIONS: '--heapsnapshot-signal=SIGUSR2' }, [], '--heapsnapshot-signal in'],
  [{ NODE_OPTIONS: '--tls-keylog=/tmp/k' }, [], '--tls-keylog in'],
  [{ BUN_OPTIONS: '--inspect' }, [], '--inspect in the variable BUN_OPTIONS'],
  [{ BUN_INSPECT: 'ws://0.0.0.0:1' }, [], 'the variable BUN_INSPECT'],
  [{ SSLKEYLOGFILE: '/tmp/keys' }, [], 'the variable SSLKEYLOGFILE'],
  [{ NODE_TLS_REJECT_UNAUTHORIZED: '0' }, [], 'the variable NODE_TLS_REJECT_UNAUTHORIZED=0'],
  [{}, ['--inspect-brk'], 'the switch --inspect-brk'],
  [{}, ['--import=./x.js'], 'the switch --import'],
])('%j with the switches %j ends the start', (env, execArgv, what) => {
  expect(() => checkEnvironment(env, execArgv)).toThrow(`${what}`)
})

test.each<[Record<string, string>, string[]]>([
  [{}, []],
  [{ NODE_OPTIONS: '--max-old-space-size=512 --use-env-proxy', NODE_EXTRA_CA_CERTS: '/ca.pem' }, []],
  [{ NODE_TLS_REJECT_UNAUTHORIZED: '1', SSLKEYLOGFILE: '' }, []],
  [{}, ['--disable-warning=ExperimentalWarning', '--disable-sigusr1']],
])('%j with the switches %j is fine', (env, execArgv) => {
  expect(() => checkEnvironment(env, execArgv)).not.toThrow()
})
