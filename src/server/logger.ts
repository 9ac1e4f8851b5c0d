import type {
  GetLoggerRequest,
  ResetLogLevelRequest,
  SetLogLevelRequest,
} from '../../proto/spire/api/server/logger/v1.ts'
import type { Logger, LogLevel as WireLevel } from '../../proto/spire/api/types.ts'
import type { LogLevel } from '../core/log.ts'
import { failure } from '../rpc/failure.ts'
import type { Call } from '../rpc/method.ts'
import type { LogControl, ServerDeps } from './deps.ts'

/** In the order of their numbers on the wire, which start at 1. */
const LEVELS: readonly LogLevel[] = ['panic', 'fatal', 'error', 'warning', 'info', 'debug', 'trace']

export async function getLogger(deps: ServerDeps, _: GetLoggerRequest, call: Call): Promise<Logger> {
  const state = loggerState(control(deps, call))
  call.audit({})
  return state
}

export async function setLogLevel(deps: ServerDeps, request: SetLogLevelRequest, call: Call): Promise<Logger> {
  if (request.newLevel === 0) {
    throw failure(call.log, 'INVALID_ARGUMENT', 'newLevel value cannot be LogLevel_UNSPECIFIED')
  }
  const level = LEVELS[request.newLevel - 1]
  if (level === undefined) throw failure(call.log, 'INVALID_ARGUMENT', 'unsupported log level')
  const log = control(deps, call)
  log.level = level
  call.log.info('SetLogLevel Called', { new_log_level: level })
  call.audit({})
  return loggerState(log)
}

export async function resetLogLevel(deps: ServerDeps, _: ResetLogLevelRequest, call: Call): Promise<Logger> {
  const log = control(deps, call)
  log.level = log.launchLevel
  call.log.info('ResetLogLevel Called', { launch_log_level: log.launchLevel })
  call.audit({})
  return loggerState(log)
}

function loggerState(log: LogControl): Logger {
  return { currentLevel: number(log.level), launchLevel: number(log.launchLevel) }
}

function number(level: LogLevel): WireLevel {
  return (LEVELS.indexOf(level) + 1) as WireLevel
}

function control(deps: ServerDeps, call: Call): LogControl {
  if (deps.logControl === undefined) {
    throw failure(call.log, 'UNIMPLEMENTED', 'the log level of this server cannot be changed')
  }
  return deps.logControl
}
