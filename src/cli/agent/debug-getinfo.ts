import { GetInfoRequest, GetInfoResponse } from '../../../proto/spire/agent/debug/v1.ts'
import { rfc3339 } from '../../core/rfc3339.ts'
import { agentAdminCommand } from '../api-command.ts'
import { durationText } from '../flags.ts'
import { chainText } from '../svid-chain.ts'

const GET_INFO = {
  path: '/spire.agent.debug.v1.Debug/GetInfo',
  request: GetInfoRequest,
  response: GetInfoResponse,
}

/** `debug getinfo`: numbers of a running agent and its own SVID. */
export const command = agentAdminCommand({
  name: 'debug getinfo',
  flags: {},
  async run(_flags, { api, print, stdout }) {
    print(await api.call(GET_INFO, {}), (info) =>
      stdout(
        'Agent Debug Info:\n' +
          `  Uptime:                          ${durationText(info.uptime)}\n` +
          `  Last Sync Success:               ${info.lastSyncSuccess === 0 ? '(never)' : rfc3339(info.lastSyncSuccess)}\n` +
          `  Cached X.509 SVIDs:              ${info.cachedX509SvidsCount}\n` +
          `  Cached JWT SVIDs:                ${info.cachedJwtSvidsCount}\n` +
          `  Cached SVID Store X.509 SVIDs:   ${info.cachedSvidstoreX509SvidsCount}\n` +
          chainText(info.svidChain),
      ),
    )
  },
})
