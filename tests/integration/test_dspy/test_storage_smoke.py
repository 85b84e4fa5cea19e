from uuid_utils.compat import uuid7
from bindu.dspy.models import *
import dataclasses

async def test_smoke(storage):
    a="default"
    assert await storage.serving(a) is None
    p=await storage.bootstrap(a,"Be kind.")
    assert p.id==1 and p.status=="active" and p.traffic==1.0
    s=await storage.serving(a)
    run=TrainingRun(agent_id=a,id=uuid7(),optimizer="simba",strategy="last_turn",seed=0)
    await storage.save_run(run)
    e=await storage.begin_trial(Trial(agent_id=a,text="Be kinder.",expected_version=s.version,origin="simba",parent_id=1,run_id=run.id))
    s=await storage.serving(a)
    assert s.candidate.traffic==.1 and s.active.traffic==.9 and s.version==2
    t=[Task(agent_id=a,id=uuid7(),prompt_id=1+i%2,history=[{"role":"user","content":"x\0"}],context_id=f"c{i%3}",external_id=f"x{i}",experiment_id=e.id,epoch=0) for i in range(10)]
    ids=await storage.add_tasks(t)
    assert ids==[x.id for x in t]
    assert await storage.add_tasks([dataclasses.replace(x,id=uuid7()) for x in t])==ids
    f=[Feedback(agent_id=a,task_id=i,id=uuid7(),kind="thumbs_up",score=1.0, comment="hm") for i in ids[:6]]
    assert await storage.add_feedback(f)==[x.id for x in f]
    m=await storage.prompt_metrics(a,[1,2,9])
    print(m)
    out=[x async for x in storage.read_tasks(TaskQuery(agent_id=a,limit=5,with_earlier=True))]
    print(out)
    assert [o.id for o in out]==ids[:6][::-1][:5]
    print(await storage.count_tasks(TaskQuery(agent_id=a,limit=5)))
    d=await storage.apply(Rollout(agent_id=a,experiment_id=e.id,expected_version=2,verdict="promote",share_before=.1,share_after=1.0,reason="r",outcome="promoted"))
    print(d, await storage.prompts(a), await storage.runs(a), await storage.experiments(a), await storage.decisions(a))
