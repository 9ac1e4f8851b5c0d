import {
  NotifyAndAdviseRequest,
  NotifyAndAdviseResponse,
  NotifyRequest,
  NotifyResponse,
} from '../../../proto/spire/plugin/server/notifier/v1.ts'
import type { Notifier } from '../../core/plugin.ts'
import { pluginBundle } from './bundle.ts'
import type { PluginCalls } from './calls.ts'

const SERVICE = '/spire.plugin.server.notifier.v1.Notifier'
const NOTIFY = { path: `${SERVICE}/Notify`, request: NotifyRequest, response: NotifyResponse }
const ADVISE = {
  path: `${SERVICE}/NotifyAndAdvise`,
  request: NotifyAndAdviseRequest,
  response: NotifyAndAdviseResponse,
}

/** A plugin that is told of the bundle. */
export function externalNotifier(name: string, calls: PluginCalls): Notifier {
  return {
    name,
    async bundleLoaded(bundle) {
      await calls.unary(ADVISE, { bundleLoaded: { bundle: pluginBundle(bundle) } })
    },
    async bundleUpdated(bundle) {
      await calls.unary(NOTIFY, { bundleUpdated: { bundle: pluginBundle(bundle) } })
    },
  }
}
