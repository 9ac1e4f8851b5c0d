/**
 * Words of older SPIRE versions that tutorials still use, and what took their place. SPIRE 1.15 refuses them without a hint; the text
 * completes `"<word>" ...`.
 */
const KEYS = {
  bundle_endpoint: 'is a block inside "federation" now',
  bundle_endpoint_enabled: 'is gone: a "bundle_endpoint" block inside "federation" turns the endpoint on',
  CommonName: 'is written "common_name"',
  Country: 'is written "country"',
  default_svid_ttl: 'is "default_x509_svid_ttl" and "default_jwt_svid_ttl" now',
  enable_sds: 'is gone: SDS is always on, and the "sds" block configures it',
  Organization: 'is written "organization"',
  plugin_dir: 'is gone: each plugin names its program in "plugin_cmd"',
  registration_uds_path: 'is "socket_path" now',
  svid_ttl: 'is "default_x509_svid_ttl" and "default_jwt_svid_ttl" now',
  umask: 'is gone: the umask of the process counts, and is tightened to 0027 if need be',
  upstream_bundle: 'is gone: the bundle of the upstream authority is always part of the trust bundle',
} as const

const PLUGIN_TYPES = {
  NodeResolver: 'is gone: node attestors give the selectors of nodes themselves',
  UpstreamCA: 'is "UpstreamAuthority" now',
} as const

const FLAGS = {
  registrationUDSPath: 'is -socketPath now',
  ttl: 'is -x509SVIDTTL and -jwtSVIDTTL now',
} as const

const hintOf =
  (table: Readonly<Record<string, string>>, quoted: (word: string) => string) =>
  (word: string): string | undefined =>
    Object.hasOwn(table, word) ? `${quoted(word)} ${table[word]}` : undefined

/** What became of a key of the configuration; undefined if nothing is known of it. */
export const hintOfKey = hintOf(KEYS, (key) => `"${key}"`)
/** What became of a type of plugin. */
export const hintOfPluginType = hintOf(PLUGIN_TYPES, (type) => `"${type}"`)
/** What became of a flag, named without its dash. */
export const hintOfFlag = hintOf(FLAGS, (flag) => `-${flag}`)
