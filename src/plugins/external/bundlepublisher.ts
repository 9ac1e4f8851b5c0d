import { PublishBundleRequest, PublishBundleResponse } from '../../../proto/spire/plugin/server/bundlepublisher/v1.ts'
import type { BundlePublisher } from '../../core/plugin.ts'
import { pluginBundle } from './bundle.ts'
import type { PluginCalls } from './calls.ts'

const PUBLISH = {
  path: '/spire.plugin.server.bundlepublisher.v1.BundlePublisher/PublishBundle',
  request: PublishBundleRequest,
  response: PublishBundleResponse,
}

/** A plugin that puts the bundle where others find it. */
export function externalBundlePublisher(name: string, calls: PluginCalls): BundlePublisher {
  return {
    name,
    async publish(bundle) {
      await calls.unary(PUBLISH, { bundle: pluginBundle(bundle) })
    },
  }
}
