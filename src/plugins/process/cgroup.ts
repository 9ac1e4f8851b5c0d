/** One line of `/proc/PID/cgroup`. */
export interface Cgroup {
  readonly hierarchy: string
  readonly controllers: string
  readonly path: string
}

/** @throws Error with SPIRE's text for a line of another shape */
export function parseCgroups(text: string): Cgroup[] {
  return linesOf(text).map((line) => {
    const [hierarchy, controllers, ...path] = line.split(':')
    if (path.length === 0) {
      const fields = controllers === undefined ? 1 : 2
      throw new Error(
        `invalid cgroup entry, contains ${fields} colon separated fields but expected at least 3: ${JSON.stringify(line)}`,
      )
    }
    return { hierarchy: hierarchy!, controllers: controllers!, path: path.join(':') }
  })
}

/** The roots of the cgroup mounts in `/proc/PID/mountinfo`, without those that show everything. @throws Error for a line of another shape */
export function parseCgroupMountRoots(text: string): string[] {
  return linesOf(text).flatMap((line) => {
    const fields = line.split(' ')
    const dash = fields.indexOf('-', 6)
    if (dash === -1 || fields.length < dash + 3) throw new Error(`invalid mount entry: ${JSON.stringify(line)}`)
    const type = fields[dash + 1]
    const root = fields[3]!.replace(/\\([0-7]{3})/g, (_, octal) => String.fromCharCode(Number.parseInt(octal, 8)))
    return (type === 'cgroup' || type === 'cgroup2') && root !== '/' ? [root] : []
  })
}

function linesOf(text: string): string[] {
  return text.split('\n').filter((line) => line !== '')
}
