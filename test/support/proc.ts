import { mkdirSync, mkdtempSync, readlinkSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

export interface FakeProcess {
  readonly cgroup: string
  readonly mountinfo?: string
  /** Default: another than the test's own. */
  readonly ownMounts?: boolean
  readonly uid?: number
}

/** A /proc that tests write. Processes run as 1000:1000 unless they say otherwise. */
export class FakeProc {
  readonly path = mkdtempSync(join(tmpdir(), 'turret-proc-'))

  set(pid: number, { cgroup, mountinfo = '', ownMounts = false, uid = 1000 }: FakeProcess): void {
    const folder = join(this.path, String(pid))
    rmSync(folder, { recursive: true, force: true })
    mkdirSync(join(folder, 'ns'), { recursive: true })
    writeFileSync(join(folder, 'status'), `Name:\tx\nUid:\t0\t${uid}\t0\t0\nGid:\t0\t1000\t0\t0\n`)
    writeFileSync(join(folder, 'cgroup'), cgroup)
    writeFileSync(join(folder, 'mountinfo'), mountinfo)
    symlinkSync(ownMounts ? readlinkSync('/proc/self/ns/mnt') : 'mnt:[1]', join(folder, 'ns/mnt'))
  }

  /** The process ends. */
  end(pid: number): void {
    rmSync(join(this.path, String(pid)), { recursive: true })
  }

  remove(): void {
    rmSync(this.path, { recursive: true, force: true })
  }
}
