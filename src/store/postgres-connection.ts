/** What node-postgres is told of a connection. */
export interface PostgresConnection {
  readonly host?: string
  readonly port?: number
  readonly user?: string
  readonly password?: string
  readonly database?: string
  readonly connectionTimeoutMillis?: number
  readonly ssl: false | TlsSettings
  readonly application_name: string
  /** Parameters of the session, `-c name=value`. */
  readonly options?: string
}

export interface TlsSettings {
  readonly rejectUnauthorized: boolean
  readonly ca?: string
  readonly cert?: string
  readonly key?: string
  /** Absent: the name is compared. */
  readonly checkServerIdentity?: () => undefined
}

const MAX_LENGTH = 4096

/**
 * Reads a connection string in either form that SPIRE takes (libpq's): a URL, or words `key=value` with values in single quotes if need be.
 * TLS is as there: `sslmode` is `require` unless given, and any authority named by `sslrootcert` has to have signed the certificate.
 *
 * @param readFile of the files that `sslrootcert`, `sslcert` and `sslkey` name
 * @throws Error that does not repeat the string, which may have a password in it
 */
export function parsePostgresConnection(text: string, readFile?: (path: string) => string): PostgresConnection {
  if (text.length > MAX_LENGTH) throw new Error('connection_string is too long')
  const words = /^postgres(ql)?:\/\//.test(text) ? urlWords(text) : spacedWords(text)
  const { host, port, user, password, dbname, connect_timeout, application_name, options, ...others } = words
  const { sslmode, sslrootcert, sslcert, sslkey, ...session } = others
  const contents = (path: string | undefined, name: string) => {
    if (path === undefined) return {}
    if (!readFile) throw new Error(`${name} cannot be read here`)
    return { [name === 'sslrootcert' ? 'ca' : name.slice(3)]: readFile(path) }
  }
  return {
    ...(host === undefined ? {} : { host }),
    ...(port === undefined ? {} : { port: wholeNumber(port, 'port', 65_535) }),
    ...(user === undefined ? {} : { user }),
    ...(password === undefined ? {} : { password }),
    ...(dbname === undefined ? {} : { database: dbname }),
    ...(connect_timeout === undefined
      ? {}
      : { connectionTimeoutMillis: 1000 * wholeNumber(connect_timeout, 'connect_timeout', 3600) }),
    ssl: tls(sslmode ?? 'require', host, {
      ...contents(sslrootcert, 'sslrootcert'),
      ...contents(sslcert, 'sslcert'),
      ...contents(sslkey, 'sslkey'),
    }),
    application_name: application_name ?? 'turret',
    ...sessionOptions({ ...SESSION, ...session }, options),
  }
}

/** Compiling costs more than it saves here: up to a second for a list. */
const SESSION: Words = { jit: 'off' }

/** Nothing is said of parameters that are empty: `jit=` is for poolers that let no parameter through. */
function sessionOptions(words: Words, more = ''): { readonly options?: string } {
  const given = Object.entries(words).filter(([, value]) => value !== '')
  const texts = given.map(([name, value]) => `-c ${name}=${value.replace(/[\s\\]/g, '\\$&')}`)
  const options = [...texts, more].join(' ').trim()
  return options === '' ? {} : { options }
}

function tls(mode: string, host: string | undefined, files: { readonly ca?: string }): PostgresConnection['ssl'] {
  // No TLS on a socket of this machine, as everybody else does it.
  if (mode === 'disable' || host?.startsWith('/')) return false
  const anyName = { checkServerIdentity: () => undefined }
  switch (mode) {
    case 'require':
      return { ...files, rejectUnauthorized: files.ca !== undefined, ...anyName }
    case 'verify-ca':
      return { ...files, rejectUnauthorized: true, ...anyName }
    case 'verify-full':
      return { ...files, rejectUnauthorized: true }
    default:
      throw new Error(
        `unsupported sslmode "${mode}"; only "require", "verify-full", "verify-ca" and "disable" are supported`,
      )
  }
}

type Words = Readonly<Record<string, string>>

function urlWords(text: string): Words {
  let url: URL
  try {
    url = new URL(text)
  } catch {
    throw new Error('connection_string is not a valid URL')
  }
  const words: Record<string, string> = {}
  const add = (name: string, value: string) => {
    if (value !== '') words[name] = value
  }
  add('host', decoded(url.hostname).replace(/^\[(.*)\]$/, '$1'))
  add('port', url.port)
  add('user', decoded(url.username))
  add('password', decoded(url.password))
  add('dbname', decoded(url.pathname.replace(/^\//, '')))
  for (const [name, value] of url.searchParams) words[name] = value
  return words
}

function decoded(text: string): string {
  try {
    return decodeURIComponent(text)
  } catch {
    throw new Error('connection_string is not a valid URL')
  }
}

function spacedWords(text: string): Words {
  const words: Record<string, string> = {}
  const word = /\s*([A-Za-z_.]+)\s*=\s*(?:'((?:[^'\\]|\\.)*)'|((?:[^\s'\\]|\\.)*))(?=\s|$)/gy
  while (/\S/.test(text.slice(word.lastIndex))) {
    const match = word.exec(text)
    if (!match) throw new Error('connection_string is neither a URL nor words of the form key=value')
    words[match[1]!] = (match[2] ?? match[3]!).replace(/\\(.)/g, '$1')
  }
  return words
}

function wholeNumber(text: string, name: string, most: number): number {
  if (!/^\d{1,6}$/.test(text) || Number(text) > most)
    throw new Error(`${name} in connection_string is not a number up to ${most}`)
  return Number(text)
}
