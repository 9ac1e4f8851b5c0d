import { half, type PluginDeclaration } from '../../plugin.ts'
import { x509PopAgentAttestor, x509PopFiles } from './agent.ts'
import { readX509Pop } from './config.ts'

const declaration: PluginDeclaration<'NodeAttestor'> = {
  server: half({
    keys: [
      'mode',
      'ca_bundle_path',
      'ca_bundle_paths',
      'spiffe_prefix',
      'agent_path_template',
      'max_intermediates',
      'max_rsa_key_size',
      'verify_client_ip',
    ],
    read: readX509Pop,
    make: (make, host) => make(host),
  }),
  agent: half({
    keys: ['private_key_path', 'certificate_path', 'intermediates_path'],
    read: x509PopFiles,
    make: x509PopAgentAttestor,
  }),
}
export default declaration
