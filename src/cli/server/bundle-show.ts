import { serverCommand } from '../api-command.ts'
import { text } from '../flags.ts'
import { bundles } from './bundle-methods.ts'
import { bundleFormat, bundleText } from './bundle-text.ts'

/** `bundle show`: the roots of the server's own trust domain, or its whole bundle. */
export const command = serverCommand({
  name: 'bundle show',
  flags: {
    format: text(
      'The format to show the bundle (only pretty output format supports this flag). Either "pem" or "spiffe".',
      'pem',
    ),
  },
  async run(flags, { api, json, print, stdout }) {
    const bundle = await api.call(bundles.get, { outputMask: undefined })
    const pretty = json ? '' : await bundleText(bundle, bundleFormat(flags.format), false)
    print(bundle, () => stdout(pretty))
  },
})
