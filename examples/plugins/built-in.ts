#!/usr/bin/env node
// A plugin that is built into Turret, under the real SPIRE: plugin_args = ["server/KeyManager", "disk"].

import { builtIn, type ServedKind, servePlugin } from 'turret/plugin'

const [kind, name] = process.argv.slice(2)
await servePlugin(await builtIn(kind as ServedKind, name ?? ''))
