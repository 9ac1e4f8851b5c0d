import { constants } from 'node:os'

// Where runtimes differ for whoever speaks TLS or listens. Everything else of node: works on all of them as on Node.

/** The oldest that the tests ran on. Before 2.9 Deno asks clients for no certificate. */
const FLOORS = { node: 24, deno: 2.9, bun: 1.4 } as const

/** Why this runtime cannot run a server or an agent; undefined: it can. */
export function unfitRuntime(
  versions: { readonly node?: string; readonly deno?: string; readonly bun?: string } = process.versions,
): string | undefined {
  const name = versions.deno ? 'deno' : versions.bun ? 'bun' : 'node'
  const [major = 0, minor = 0] = (versions[name] ?? '').split('.').map(Number)
  const [floorMajor = 0, floorMinor = 0] = `${FLOORS[name]}`.split('.').map(Number)
  if (major > floorMajor || (major === floorMajor && minor >= floorMinor)) return undefined
  return `needs ${name} ${FLOORS[name]} or newer, found ${versions[name]}`
}

/**
 * What post-quantum key exchanges TLS can be held to; undefined: to none, so that `require_pq_kem` must be refused.
 *
 * Node: SPIRE's list. Bun: its BoringSSL refuses a list with the other two. Deno: its rustls takes no list at all, and a client
 * with nothing but X25519 gets through.
 */
export const PQ_GROUPS: string | undefined = process.versions.deno
  ? undefined
  : process.versions.bun
    ? 'X25519MLKEM768'
    : 'X25519MLKEM768:SecP256r1MLKEM768:SecP384r1MLKEM1024'

/**
 * Key exchanges that TLS takes otherwise, the first preferred: as Go, so none over finite fields. Deno's rustls takes no list, and has no
 * others than these.
 */
export const GROUPS = `${process.versions.bun ? 'X25519MLKEM768' : 'X25519MLKEM768:SecP256r1MLKEM768:SecP384r1MLKEM1024'}:X25519:P-256:P-384:P-521`

/**
 * Cipher suites: authenticated ones with forward secrecy, so for TLS 1.2 ECDHE with GCM or ChaCha20. AES-128 comes first: processors that
 * run servers have instructions for it. BoringSSL's own order for TLS 1.3 cannot be set.
 */
export const CIPHERS = [
  ...(process.versions.bun ? [] : ['TLS_AES_128_GCM_SHA256', 'TLS_AES_256_GCM_SHA384', 'TLS_CHACHA20_POLY1305_SHA256']),
  'ECDHE-ECDSA-AES128-GCM-SHA256',
  'ECDHE-RSA-AES128-GCM-SHA256',
  'ECDHE-ECDSA-AES256-GCM-SHA384',
  'ECDHE-RSA-AES256-GCM-SHA384',
  'ECDHE-ECDSA-CHACHA20-POLY1305',
  'ECDHE-RSA-CHACHA20-POLY1305',
].join(':')

export const NO_PQ_GROUPS =
  'require_pq_kem cannot be kept on Deno, whose TLS takes no list of key exchanges: use Node.js or Bun'

/** Deno takes SIGUSR1 for its debugger half a second after the start, beside any listener. */
export const DENO_GRACE_MS = 1_000

/**
 * Lets SIGUSR1 through to its listeners. The launchers have Node block it (`--disable-sigusr1`), so that nobody opens a debugger by it; no
 * debugger is there to be opened then.
 */
export async function admitDebuggerSignal(): Promise<void> {
  if (!process.execArgv.includes('--disable-sigusr1')) return
  const { default: koffi } = await import('koffi')
  const libc = koffi.load(null)
  const set = Buffer.alloc(SIGSET_BYTES)
  libc.func('int sigemptyset(void *set)')(set)
  libc.func('int sigaddset(void *set, int number)')(set, constants.signals.SIGUSR1)
  libc.func('int pthread_sigmask(int how, const void *set, void *before)')(SIG_UNBLOCK, set, null)
}

/** Not less than any platform's. */
const SIGSET_BYTES = 128
const SIG_UNBLOCK = process.platform === 'darwin' ? 2 : 1

/** Has the whole process ignore SIGUSR1, listeners included. */
export async function ignoreDebuggerSignal(): Promise<void> {
  const { default: koffi } = await import('koffi')
  const { SIGUSR1 } = constants.signals
  const SIG_IGN = 1
  koffi.load(null).func('intptr_t signal(int number, intptr_t handler)')(SIGUSR1, SIG_IGN)
}

/** Gives a function that returns free memory of the C library's heap to the system; it does nothing where that is not glibc. */
export async function loadHeapTrim(): Promise<() => void> {
  if (process.platform !== 'linux') return () => {}
  const { default: koffi } = await import('koffi')
  try {
    const trim = koffi.load(null).func('int malloc_trim(size_t keep)')
    return () => {
      trim(0)
    }
  } catch {
    return () => {}
  }
}
