// `turret/plugin`: what one writes a plugin of SPIRE or Turret with.

export type { PlainObject, PlainValue } from '../config/plain.ts'
export { type StatusCode, StatusError } from '../core/error.ts'
export type { Log, LogFields } from '../core/log.ts'
export { requiredText, textOf } from '../plugins/plugin-data.ts'
export { builtIn, type ServedKind } from './built-in.ts'
export type { HostServices, MetricLabels, Metrics } from './host-services.ts'
export { type Implementation, KINDS, type PluginCall, type PluginKind } from './kinds.ts'
export type { GivenConfiguration, PluginHost, PluginProgram } from './program.ts'
export { servePlugin } from './serve.ts'
export { type DigestSigning, signDigest } from './sign-digest.ts'
