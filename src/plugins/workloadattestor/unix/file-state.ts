import type { BigIntStats } from 'node:fs'

/** Which file it is, and since when it is as it is: whatever changes its content changes this. */
export function fileState({ dev, ino, size, mtimeNs, ctimeNs }: BigIntStats): string {
  return `${dev}:${ino}:${size}:${mtimeNs}:${ctimeNs}`
}
