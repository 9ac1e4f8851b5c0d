import { boolean, integer, text } from '../flags.ts'

/** The flags of `run`, which `validate` has too. */
export const RUN_FLAGS = {
  bindAddress: text('IP address or DNS name of the SPIRE server'),
  config: text('Path to a SPIRE config file'),
  dataDir: text('Directory to store runtime data to'),
  expandEnv: boolean('Expand environment variables in SPIRE config file'),
  logFile: text('File to write logs to'),
  logFormat: text("'text' or 'json'"),
  logLevel: text("'debug', 'info', 'warn', or 'error'"),
  logSourceLocation: boolean('Include source file, line number and function name in log lines'),
  serverPort: integer('Port number of the SPIRE server'),
  socketPath: text('Path to bind the SPIRE Server API socket to'),
  trustDomain: text('The trust domain that this server belongs to'),
}

export const DEFAULT_CONFIG = 'conf/server/server.conf'
