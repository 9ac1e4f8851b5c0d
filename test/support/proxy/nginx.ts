import { spawn, spawnSync } from 'node:child_process'
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { connect } from 'node:net'
import { join, resolve } from 'node:path'
import { eventually } from '../cluster.ts'

const VENV = resolve(import.meta.dirname, '../../../node_modules/.cache/turret/nginx')

export interface TlsFront {
  log(): string
  stop(): Promise<void>
}

export interface TlsFrontOptions {
  /** For its files. */
  readonly folder: string
  readonly port: number
  /** Port of the server behind it, on loopback. */
  readonly target: number
  /** PEM files. */
  readonly certificate: string
  readonly key: string
  /** Lines of nginx: what it tells the server of each request. */
  readonly headers: readonly string[]
}

/** Starts nginx on loopback, installing it first if need be. It asks clients for certificates and judges none of them. */
export async function startNginx(options: TlsFrontOptions): Promise<TlsFront> {
  const { folder, port, target, certificate, key, headers } = options
  const setup = spawnSync(join(import.meta.dirname, 'setup-nginx'), [VENV], { stdio: 'inherit' })
  if (setup.status !== 0) throw new Error('nginx could not be installed')
  mkdirSync(folder, { recursive: true })
  const kinds = ['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi']
  writeFileSync(
    join(folder, 'nginx.conf'),
    `daemon off; master_process off; pid ${folder}/pid; error_log ${folder}/error.log info;
events {}
http {
  access_log off;
  ${kinds.map((kind) => `${kind}_temp_path ${folder}/${kind};`).join(' ')}
  server {
    listen 127.0.0.1:${port} ssl;
    ssl_certificate ${certificate};
    ssl_certificate_key ${key};
    ssl_verify_client optional_no_ca;
    location / {
      proxy_pass http://127.0.0.1:${target};
      ${headers.map((line) => `proxy_set_header ${line};`).join('\n      ')}
    }
  }
}
`,
  )
  const log = join(folder, 'error.log')
  const nginx = spawn(join(VENV, 'bin/nginx'), ['-p', folder, '-e', log, '-c', join(folder, 'nginx.conf')], {
    stdio: 'inherit',
  })
  const ended = new Promise((done) => nginx.once('exit', done))
  await eventually(
    () =>
      new Promise<void>((done, reject) => {
        const socket = connect(port, '127.0.0.1', () => {
          socket.destroy()
          done()
        })
        socket.once('error', reject)
      }),
  )
  return {
    log: () => readFileSync(log, 'utf8'),
    async stop() {
      nginx.kill()
      await ended
    },
  }
}
