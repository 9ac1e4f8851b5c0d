import { GetInfoRequest, GetInfoResponse } from '../../../proto/spire/api/server/debug/v1.ts'
import { serverCommand } from '../api-command.ts'
import { durationText } from '../flags.ts'
import { chainText } from '../svid-chain.ts'

const GET_INFO = {
  path: '/spire.api.server.debug.v1.Debug/GetInfo',
  request: GetInfoRequest,
  response: GetInfoResponse,
}

/** `debug getinfo`: numbers of a running server and its own SVID. */
export const command = serverCommand({
  name: 'debug getinfo',
  flags: {},
  async run(_flags, { api, print, stdout }) {
    print(await api.call(GET_INFO, {}), (info) =>
      stdout(
        'Server Debug Info:\n' +
          `  Uptime:                  ${durationText(info.uptime)}\n` +
          `  Registered Agents:       ${info.agentsCount}\n` +
          `  Registration Entries:    ${info.entriesCount}\n` +
          `  Federated Bundles:       ${info.federatedBundlesCount}\n` +
          chainText(info.svidChain),
      ),
    )
  },
})
