"""Words of the wire in words for people: one table, Chinese first. Unknown words are shown as they are."""

LANGUAGES = ("zh", "en")
HTML_LANG = {"zh": "zh-CN", "en": "en"}

Table = dict[str, tuple[str, str]]

_REASONS: Table = {
    "all_good": ("符合要求", "all requirements met"),
    "pass_missing": ("未出示通行证", "no pass shown"),
    "pass_expired": ("通行证已过期", "pass expired"),
    "pass_not_yet": ("通行证尚未生效", "pass not valid yet"),
    "pass_wrong_site": ("通行证不属于本小区", "pass of another compound"),
    "pass_wrong_direction": ("通行证不允许此方向", "pass not for this direction"),
    "pass_revoked": ("通行证已被撤销", "pass revoked"),
    "pass_reused": ("通行证短时间内重复使用", "pass used again too soon"),
    "pass_suspended": ("通行证暂停使用", "pass suspended"),
    "token_not_ours": ("不是本系统的码", "not one of our codes"),
    "token_malformed": ("码的内容无法识别", "code cannot be understood"),
    "token_oversize": ("码的内容过长", "code too long"),
    "token_unknown_key": ("签发密钥未知", "issued with an unknown key"),
    "token_bad_signature": ("签名无效", "signature invalid"),
    "token_wrong_algorithm": ("签名算法不符", "wrong signature algorithm"),
    "code_control_characters": ("码中含有控制字符", "code with control characters"),
    "code_checksum": ("码校验错误", "code checksum wrong"),
    "code_frame": ("码读取不完整", "code read incompletely"),
    "card_unknown": ("未登记的卡", "unknown card"),
    "curfew": ("夜间封闭", "night curfew"),
    "curfew_imminent": ("即将封闭", "curfew about to begin"),
    "clock_untrusted": ("时钟不可信", "clock not trusted"),
    "fever": ("体温异常", "fever"),
    "not_measured": ("未测体温", "temperature not measured"),
    "low_reading": ("体温读数过低", "reading too low"),
    "spread": ("体温读数不稳定", "readings too far apart"),
    "implausible": ("体温读数不合理", "reading implausible"),
    "ambient_out_of_range": ("环境温度超出测温范围", "ambient temperature out of range"),
    "nothing_in_front": ("测温仪前无人", "nobody in front of the thermometer"),
    "too_few_samples": ("测温次数不足", "too few samples"),
    "sensor_failed": ("测温仪故障", "thermometer failed"),
    "mask_refused": ("拒绝佩戴口罩", "mask refused"),
    "mask_unknown": ("口罩未确认", "mask not confirmed"),
    "occupants_unknown": ("车内人数未确认", "occupants not confirmed"),
    "too_many_occupants": ("车内人数过多", "too many occupants"),
    "left": ("已离开", "left"),
    "timed_out": ("超时", "timed out"),
    "lockout": ("通道已锁闭", "lane locked"),
    "lockout_fever": ("因体温异常锁闭", "locked after a fever reading"),
    "lockout_fault": ("因故障锁闭", "locked by a fault"),
    "lockout_disk": ("因存储故障锁闭", "locked by a storage fault"),
    "lockout_command": ("因指令锁闭", "locked by command"),
    "lockout_sealed": ("出入口已封闭", "entrance sealed"),
    "lockout_tamper": ("因撬动锁闭", "locked after tampering"),
    "fire": ("消防", "fire"),
    "disk": ("存储故障", "storage fault"),
    "barrier_fault": ("道闸故障", "barrier fault"),
    "exception_ambulance": ("救护车放行", "ambulance"),
    "exception_fire": ("消防车放行", "fire brigade"),
    "exception_fire_brigade": ("消防车放行", "fire brigade"),
    "exception_police": ("警车放行", "police"),
    "exception_medical": ("就医放行", "medical need"),
    "exception_duty": ("值班人员放行", "duty staff"),
}

_FAULTS: Table = {
    "none": ("无", "none"),
    "missing": ("未连接", "missing"),
    "refused": ("无权使用", "refused"),
    "transfer": ("通信失败", "transfer failed"),
    "value": ("读数异常", "value refused"),
    "device": ("设备异常", "device failed"),
    "no_response": ("无响应", "no response"),
    "jam": ("卡阻", "jammed"),
    "both_limits": ("限位矛盾", "limit switches contradict"),
    "forced": ("被强行移动", "moved by force"),
}

TABLES: dict[str, Table] = {
    "ui": {
        "title": ("门卫 · 小区出入口", "menwei · compound gates"),
        "alarms": ("未解除的报警", "Open alarms"),
        "no_alarms": ("没有报警", "No alarms"),
        "gates": ("出入口", "Gates"),
        "no_gates": ("还没有出入口报到", "No gate has reported yet"),
        "passages": ("最近通行", "Last passages"),
        "no_passages": ("还没有通行记录", "No passages yet"),
        "site": ("小区", "Compound"),
        "gate": ("出入口", "Gate"),
        "lane": ("通道", "Lane"),
        "time": ("时间", "Time"),
        "direction": ("方向", "Direction"),
        "verdict": ("判定", "Verdict"),
        "reasons": ("原因", "Reasons"),
        "thermal": ("体温", "Temperature"),
        "outcome": ("通过情况", "Crossing"),
        "since": ("自", "since"),
        "clock": ("时钟", "Clock"),
        "waiting": ("待送记录", "Waiting records"),
        "seen": ("最近联系", "Last heard"),
        "position": ("道闸", "Barrier"),
        "lockouts": ("锁闭原因", "Locked by"),
        "release": ("开放原因", "Opened by"),
        "missing": ("条记录缺失", "records missing"),
        "broker_lost": (
            "与消息服务器的连接已断开，画面可能不是最新",
            "Connection to the broker lost: this may be out of date",
        ),
        "store_lost": ("数据库无法写入，记录暂存于出入口", "The database takes no records: gates keep them"),
        "live": ("实时", "live"),
        "offline": ("连接中断，正在重连", "connection lost, trying again"),
        "other_language": ("English", "中文"),
        "ago_s": ("{} 秒前", "{} s ago"),
        "ago_min": ("{} 分钟前", "{} min ago"),
        "ago_h": ("{} 小时前", "{} h ago"),
        "now": ("刚刚", "just now"),
        "no_state": ("尚无状态", "no state yet"),
    },
    "reason": _REASONS,
    "fault": _FAULTS,
    "phase": {
        "ready": ("正常", "ready"),
        "degraded": ("部分故障", "degraded"),
        "stopping": ("已停机", "stopped"),
        "lost": ("失联", "lost"),
        "silent": ("无消息", "silent"),
        "unknown": ("未知", "unknown"),
    },
    "lane_phase": {
        "idle": ("空闲", "idle"),
        "screening": ("查验中", "screening"),
        "committing": ("记录中", "recording"),
        "passing": ("通行中", "passing"),
        "refused": ("已拒绝", "refused"),
    },
    "lane_kind": {"vehicle": ("车行", "vehicles"), "pedestrian": ("人行", "pedestrians")},
    "position": {
        "open": ("开", "open"),
        "closed": ("关", "closed"),
        "between": ("中间", "between"),
        "unknown": ("未知", "unknown"),
    },
    "lockout": {
        "curfew": ("夜间封闭", "curfew"),
        "fever": ("体温异常", "fever"),
        "fault": ("故障", "fault"),
        "clock": ("时钟", "clock"),
        "command": ("指令", "command"),
        "sealed": ("封闭", "sealed"),
        "tamper": ("撬动", "tamper"),
        "disk": ("存储", "storage"),
    },
    "release": {"fire": ("消防", "fire")},
    "verdict": {
        "admit": ("放行", "admitted"),
        "refuse": ("拒绝", "refused"),
        "retest": ("复测", "retest"),
        "wait": ("等待", "wait"),
    },
    "outcome": {"crossed": ("已通过", "crossed"), "not_observed": ("未见通过", "not seen to cross")},
    "direction": {"in": ("进", "in"), "out": ("出", "out")},
    "thermal": {
        "normal": ("正常", "normal"),
        "fever": ("发热", "fever"),
        "not_measured": ("未测", "not measured"),
    },
    "clock": {
        "trusted": ("可信", "trusted"),
        "holdover": ("守时", "holdover"),
        "untrusted": ("不可信", "untrusted"),
    },
    "cause": {
        "fever": ("体温异常", "Fever"),
        "gate_silent": ("出入口失联", "Gate silent"),
        "gap": ("记录缺失", "Records missing"),
        "device_fault": ("设备故障", "Device fault"),
        "clock_untrusted": ("时钟不可信", "Clock not trusted"),
        "fire": ("消防开放", "Fire release"),
    },
}


def say(language: str, table: str, word: str) -> str:
    """The word for people, or the word itself when the table does not have it."""
    pair = TABLES[table].get(word)
    return word if pair is None else pair[LANGUAGES.index(language)]


def choose(asked: str | None, accept_language: str) -> str:
    """Language of a visit: what the address asks for, else the browser's first known one, else Chinese."""
    if asked in LANGUAGES:
        return str(asked)
    for part in accept_language.split(","):
        code = part.split(";")[0].strip().lower()[:2]
        if code in LANGUAGES:
            return code
    return LANGUAGES[0]
